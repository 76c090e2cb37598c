// Package gpus decides what a node's mocked GPUs are and how they do: from the labels that GPU feature discovery would
// set, and from annotations by which a test causes faults. It is pure, so that it can be tested without a cluster.
package gpus

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
)

// Labels read from the node.
const (
	LabelCount   = "nvidia.com/gpu.count"
	LabelProduct = "nvidia.com/gpu.product"
	LabelMemory  = "nvidia.com/gpu.memory"
)

// Annotations read from the node. XID and utilisation take "INDEX=VALUE,…", where utilisation also takes one percentage
// for all; unhealthy takes "INDEX,…".
const (
	AnnotationXID         = "mock.stowplan.dev/xid"
	AnnotationUnhealthy   = "mock.stowplan.dev/unhealthy"
	AnnotationUtilisation = "mock.stowplan.dev/utilisation"
)

// GPU is one mocked device.
type GPU struct {
	Index   int
	UUID    string
	Healthy bool // what the device plugin tells the kubelet
	XID     int  // the last error code, 0 for none
	// UtilisationPercent is fixed by annotation, or -1: then it follows from use.
	UtilisationPercent int
}

// Inventory is what a node has.
type Inventory struct {
	Node      string
	Model     string // as the driver writes it, with spaces
	MemoryMiB int
	GPUs      []GPU
}

// Read makes the inventory of a node. What is malformed is left out and told.
func Read(node string, labels, annotations map[string]string) (Inventory, []error) {
	var problems []error
	inventory := Inventory{Node: node, Model: strings.ReplaceAll(labels[LabelProduct], "-", " ")}
	number := func(label string) int {
		value, err := strconv.Atoi(labels[label])
		if err != nil || value < 0 {
			problems = append(problems, fmt.Errorf("label %s: %q is no whole number", label, labels[label]))
			return 0
		}
		return value
	}
	inventory.MemoryMiB = number(LabelMemory)
	for index := range number(LabelCount) {
		inventory.GPUs = append(inventory.GPUs, GPU{
			Index: index, UUID: uuid(node, index), Healthy: true, UtilisationPercent: -1,
		})
	}

	apply := func(annotation string, valueNeeded bool, set func(gpu *GPU, value int)) {
		for _, item := range strings.FieldsFunc(annotations[annotation], func(r rune) bool { return r == ',' || r == ' ' }) {
			left, right, hasValue := strings.Cut(item, "=")
			index, err := strconv.Atoi(left)
			value := 0
			if err == nil && hasValue {
				value, err = strconv.Atoi(right)
			}
			if err != nil || hasValue != valueNeeded || index < 0 || index >= len(inventory.GPUs) {
				problems = append(problems, fmt.Errorf("annotation %s: cannot use %q on %d GPUs", annotation, item, len(inventory.GPUs)))
				continue
			}
			set(&inventory.GPUs[index], value)
		}
	}
	apply(AnnotationXID, true, func(gpu *GPU, value int) { gpu.XID = value })
	apply(AnnotationUnhealthy, false, func(gpu *GPU, _ int) { gpu.Healthy = false })
	if all, err := strconv.Atoi(annotations[AnnotationUtilisation]); err == nil {
		for i := range inventory.GPUs {
			inventory.GPUs[i].UtilisationPercent = all
		}
	} else {
		apply(AnnotationUtilisation, true, func(gpu *GPU, value int) { gpu.UtilisationPercent = value })
	}
	return inventory, problems
}

// uuid is a stable name in the driver's form.
func uuid(node string, index int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", node, index))
	return fmt.Sprintf("GPU-%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
