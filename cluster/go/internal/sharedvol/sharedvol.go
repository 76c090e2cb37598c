// Package sharedvol provisions volumes that pods on several nodes can mount at once: every node of the development cluster is a
// container on one machine and has the same folder of that machine, so a volume is a sub-folder of it. The folder is
// writable for any user, because the kubelet sets no ownership on host paths. Sizes are recorded and not enforced.
package sharedvol

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	provisioner   = "stowplan.dev/shared"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	askedFrom     = "volume.kubernetes.io/storage-provisioner"
)

type volumes struct {
	client kubernetes.Interface
	root   string
}

// Run provisions and reclaims volumes, sub-folders of root, until the context ends.
func Run(ctx context.Context, client kubernetes.Interface, root string) error {
	all := &volumes{client: client, root: root}
	factory := informers.NewSharedInformerFactory(client, 30*time.Second)
	if err := watch(ctx, factory.Core().V1().PersistentVolumeClaims().Informer(), all.provision); err != nil {
		return err
	}
	if err := watch(ctx, factory.Core().V1().PersistentVolumes().Informer(), all.reclaim); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	return nil
}

func watch[T any](ctx context.Context, informer cache.SharedIndexInformer, act func(context.Context, T) error) error {
	handle := func(object any) {
		if err := act(ctx, object.(T)); err != nil {
			klog.Error(err)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, object any) { handle(object) },
	})
	return err
}

// provision makes the folder first, so that a volume is never bound before it exists; doing it twice is harmless.
func (v *volumes) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Annotations[askedFrom] != provisioner || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
		return nil
	}
	name := "pvc-" + string(claim.UID)
	folder := filepath.Join(v.root, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o777); err != nil { // whatever the umask
		return err
	}
	directory := corev1.HostPathDirectory
	_, err := v.client.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisioner}},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: folder, Type: &directory},
			},
			StorageClassName: *claim.Spec.StorageClassName,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// reclaim deletes what a deleted claim has left.
func (v *volumes) reclaim(ctx context.Context, volume *corev1.PersistentVolume) error {
	if volume.Annotations[provisionedBy] != provisioner || volume.Status.Phase != corev1.VolumeReleased {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(v.root, volume.Name)); err != nil {
		return fmt.Errorf("volume %s: %w", volume.Name, err)
	}
	err := v.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
