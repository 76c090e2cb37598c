// mock is the small programs that make a development cluster out of a plain one, in one file, since each of them is
// mostly the Kubernetes client: mocked GPUs, shared volumes, and service discovery for Prometheus.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"stowplan.dev/cluster/internal/gpumock"
	"stowplan.dev/cluster/internal/podtargets"
	"stowplan.dev/cluster/internal/sharedvol"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		klog.Exit(err)
	}
}

func run(ctx context.Context, arguments []string) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if len(arguments) == 2 {
		switch arguments[0] {
		case "gpus":
			return gpumock.Run(ctx, client, os.Getenv("NODE_NAME"), arguments[1])
		case "volumes":
			return sharedvol.Run(ctx, client, arguments[1])
		case "targets":
			return podtargets.Run(ctx, client, arguments[1])
		}
	}
	return fmt.Errorf("usage: mock gpus METRICS-ADDRESS | volumes FOLDER | targets ADDRESS, not %q", arguments)
}
