package gpumock

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"stowplan.dev/cluster/internal/gpus"
)

const podResourcesSocket = "unix:///var/lib/kubelet/pod-resources/kubelet.sock"

// serveMetrics is the exporter's double: as the real one does, it asks the kubelet which pod has which GPU.
func serveMetrics(ctx context.Context, address string, current *state) error {
	connection, err := grpc.NewClient(podResourcesSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	lister := podresources.NewPodResourcesListerClient(connection)

	routes := http.NewServeMux()
	routes.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("GET /metrics", func(response http.ResponseWriter, request *http.Request) {
		inventory, _ := current.get()
		response.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		if err := gpus.WriteMetrics(response, inventory, owners(request.Context(), lister), time.Now()); err != nil {
			klog.Warning(err)
		}
	})
	server := &http.Server{Addr: address, Handler: routes, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

// owners are the containers that have GPUs, by the GPU's UUID; none while the kubelet does not answer.
func owners(ctx context.Context, lister podresources.PodResourcesListerClient) map[string]gpus.Owner {
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	response, err := lister.List(ctx, &podresources.ListPodResourcesRequest{})
	if err != nil {
		klog.Warningf("the kubelet does not list pod resources: %v", err)
		return nil
	}
	found := map[string]gpus.Owner{}
	for _, pod := range response.PodResources {
		for _, container := range pod.Containers {
			for _, devices := range container.Devices {
				for _, id := range devices.DeviceIds {
					found[id] = gpus.Owner{Namespace: pod.Namespace, Pod: pod.Name, Container: container.Name}
				}
			}
		}
	}
	return found
}
