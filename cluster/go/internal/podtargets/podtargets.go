// Package podtargets tells Prometheus which pods there are, over its HTTP service discovery: Debian's Prometheus is
// built without the Kubernetes one. Targets carry the same __meta_kubernetes_pod_… labels, so scrape configurations
// written for role pod need no other change.
package podtargets

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// Run serves GET /pods?namespace=NAME until the context ends.
func Run(ctx context.Context, client kubernetes.Interface, address string) error {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /pods", func(response http.ResponseWriter, request *http.Request) {
		pods, err := client.CoreV1().Pods(request.FormValue("namespace")).List(request.Context(), metav1.ListOptions{})
		if err != nil { // Prometheus then keeps the targets that it knows
			http.Error(response, err.Error(), http.StatusBadGateway)
			return
		}
		response.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(response).Encode(targets(pods.Items)); err != nil {
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

var notInNames = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// targets are one for each declared port of each pod that has an address, or one without a port.
func targets(pods []corev1.Pod) []target {
	found := []target{}
	for _, pod := range pods {
		if pod.Status.PodIP == "" {
			continue
		}
		common := map[string]string{
			"__meta_kubernetes_namespace":     pod.Namespace,
			"__meta_kubernetes_pod_name":      pod.Name,
			"__meta_kubernetes_pod_ip":        pod.Status.PodIP,
			"__meta_kubernetes_pod_node_name": pod.Spec.NodeName,
			"__meta_kubernetes_pod_phase":     string(pod.Status.Phase),
		}
		for name, value := range pod.Labels {
			common["__meta_kubernetes_pod_label_"+notInNames.ReplaceAllString(name, "_")] = value
		}
		for name, value := range pod.Annotations {
			if len(value) < 256 { // kubectl's and others' large ones are no use here
				common["__meta_kubernetes_pod_annotation_"+notInNames.ReplaceAllString(name, "_")] = value
			}
		}
		for _, container := range pod.Spec.Containers {
			ports := container.Ports
			if len(ports) == 0 {
				ports = []corev1.ContainerPort{{}}
			}
			for _, port := range ports {
				labels := map[string]string{"__meta_kubernetes_pod_container_name": container.Name}
				for name, value := range common {
					labels[name] = value
				}
				address := pod.Status.PodIP
				if port.ContainerPort != 0 {
					number := strconv.Itoa(int(port.ContainerPort))
					address = net.JoinHostPort(pod.Status.PodIP, number)
					labels["__meta_kubernetes_pod_container_port_name"] = port.Name
					labels["__meta_kubernetes_pod_container_port_number"] = number
				}
				found = append(found, target{Targets: []string{address}, Labels: labels})
			}
		}
	}
	return found
}
