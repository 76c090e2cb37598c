package gpumock

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const resourceName = "nvidia.com/gpu"

// plugin answers the kubelet.
type plugin struct {
	api.UnimplementedDevicePluginServer
	current *state
}

func (*plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	for {
		inventory, changed := p.current.get()
		response := &api.ListAndWatchResponse{}
		for _, gpu := range inventory.GPUs {
			health := api.Unhealthy
			if gpu.Healthy {
				health = api.Healthy
			}
			response.Devices = append(response.Devices, &api.Device{ID: gpu.UUID, Health: health})
		}
		if err := stream.Send(response); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (*plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &api.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		})
	}
	return response, nil
}

// servePlugin registers with the kubelet, and again whenever the kubelet restarts.
func servePlugin(ctx context.Context, current *state) {
	for ctx.Err() == nil {
		if err := serveOnce(ctx, current); err != nil {
			klog.Warning(err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// serveOnce ends when the kubelet has restarted: it then removes the plugins' sockets and listens on a new one.
func serveOnce(ctx context.Context, current *state) error {
	socket := filepath.Join(api.DevicePluginPath, "gpumock.sock")
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	kubelet, err := os.Stat(api.KubeletSocket)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, &plugin{current: current})
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	if err := register(ctx, filepath.Base(socket)); err != nil {
		return fmt.Errorf("the kubelet takes no registration: %w", err)
	}
	klog.Infof("registered %s", resourceName)
	for ctx.Err() == nil {
		time.Sleep(time.Second)
		if _, err := os.Stat(socket); err != nil {
			return fmt.Errorf("registering again: %w", err)
		}
		if now, err := os.Stat(api.KubeletSocket); err != nil || !os.SameFile(kubelet, now) {
			return fmt.Errorf("registering again: the kubelet has restarted")
		}
	}
	return nil
}

func register(ctx context.Context, endpoint string) error {
	connection, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version: api.Version, Endpoint: endpoint, ResourceName: resourceName, Options: &api.DevicePluginOptions{},
	})
	return err
}
