// Package gpumock makes a node of the development cluster look as if it had NVIDIA GPUs: a device plugin, so that the
// kubelet itself counts and assigns them, and a double of NVIDIA's DCGM exporter. What the GPUs are is read from the
// node's labels, faults from its annotations (package gpus), both again whenever they change. No device is handed out.
package gpumock

import (
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"stowplan.dev/cluster/internal/gpus"
)

// Run mocks the GPUs of a node until the context ends.
func Run(ctx context.Context, client kubernetes.Interface, nodeName, metricsAddress string) error {
	current := newState()
	if err := watchNode(ctx, client, nodeName, current); err != nil {
		return err
	}
	go servePlugin(ctx, current)
	return serveMetrics(ctx, metricsAddress, current)
}

// state holds the node's inventory and wakes those who wait for another one.
type state struct {
	mutex     sync.Mutex
	inventory gpus.Inventory
	changed   chan struct{} // closed at the next change
}

func newState() *state { return &state{changed: make(chan struct{})} }

func (s *state) get() (gpus.Inventory, <-chan struct{}) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.inventory, s.changed
}

func (s *state) set(inventory gpus.Inventory) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.inventory.Model == inventory.Model && s.inventory.MemoryMiB == inventory.MemoryMiB &&
		slices.Equal(s.inventory.GPUs, inventory.GPUs) {
		return
	}
	klog.Infof("%d × %s: %+v", len(inventory.GPUs), inventory.Model, inventory.GPUs)
	s.inventory = inventory
	close(s.changed)
	s.changed = make(chan struct{})
}

// watchNode returns when the node has been read once, and keeps the state up to date.
func watchNode(ctx context.Context, client kubernetes.Interface, name string, current *state) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		}))
	update := func(object any) {
		node := object.(*corev1.Node)
		inventory, problems := gpus.Read(node.Name, node.Labels, node.Annotations)
		if before, _ := current.get(); len(problems) > 0 && !slices.Equal(before.GPUs, inventory.GPUs) {
			klog.Warningf("left out: %v", problems)
		}
		current.set(inventory)
	}
	registration, err := factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    update,
		UpdateFunc: func(_, object any) { update(object) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	cache.WaitForCacheSync(ctx.Done(), registration.HasSynced)
	return ctx.Err()
}
