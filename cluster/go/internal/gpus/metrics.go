package gpus

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// Owner is the container that a GPU has been given to.
type Owner struct{ Namespace, Pod, Container string }

// driverVersion is reported, since the real exporter does.
const driverVersion = "570.133.20"

// What the driver keeps for itself, and what a process of any kind takes, in MiB.
const (
	reservedMiB = 640
	idleMiB     = 4
)

type reading struct {
	utilisation, usedMiB, powerWatts, temperature float64
}

type metric struct {
	name, kind, help string
	value            func(gpu GPU, now reading, memoryMiB float64, seconds float64) float64
}

// The names of NVIDIA's DCGM exporter, in its order.
var metrics = []metric{
	{"DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).",
		func(_ GPU, now reading, _, _ float64) float64 { return 345 + math.Round(now.utilisation)*16 }},
	{"DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C).",
		func(_ GPU, now reading, _, _ float64) float64 { return now.temperature + 6 }},
	{"DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).",
		func(_ GPU, now reading, _, _ float64) float64 { return now.temperature }},
	{"DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).",
		func(_ GPU, now reading, _, _ float64) float64 { return now.powerWatts }},
	{"DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).",
		func(_ GPU, now reading, _, _ float64) float64 { return math.Round(now.utilisation) }},
	{"DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %).",
		func(_ GPU, now reading, _, _ float64) float64 { return math.Round(now.utilisation * 0.6) }},
	{"DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.",
		func(gpu GPU, _ reading, _, _ float64) float64 { return float64(gpu.XID) }},
	{"DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).",
		func(_ GPU, now reading, memory, _ float64) float64 { return memory - now.usedMiB - reservedMiB }},
	{"DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).",
		func(_ GPU, now reading, _, _ float64) float64 { return now.usedMiB }},
	{"DCGM_FI_DEV_FB_RESERVED", "gauge", "Framebuffer memory reserved (in MiB).",
		func(GPU, reading, float64, float64) float64 { return reservedMiB }},
	{"DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "counter", "Total number of NVLink bandwidth counters for all lanes.",
		func(_ GPU, now reading, _, seconds float64) float64 { return math.Round(seconds * now.utilisation) }},
	{"DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "Ratio of time the graphics engine is active.",
		func(_ GPU, now reading, _, _ float64) float64 { return now.utilisation / 100 }},
	{"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "Ratio of cycles the tensor (HMMA) pipe is active.",
		func(_ GPU, now reading, _, _ float64) float64 { return now.utilisation / 100 * 0.42 }},
	{"DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "Ratio of cycles the device memory interface is active.",
		func(_ GPU, now reading, _, _ float64) float64 { return now.utilisation / 100 * 0.55 }},
}

// read is how a GPU does at a time: busy, with a slow wave, while a container has it; idle otherwise.
func read(gpu GPU, owned bool, memoryMiB, seconds float64) reading {
	now := reading{usedMiB: idleMiB}
	if owned {
		phase := seconds/20 + float64(gpu.Index)
		now.utilisation = 89 + 7*math.Sin(phase)
		now.usedMiB = math.Round(memoryMiB * (0.62 + 0.02*math.Sin(phase/3)))
	}
	if gpu.UtilisationPercent >= 0 {
		now.utilisation = float64(gpu.UtilisationPercent)
	}
	now.powerWatts = 72 + now.utilisation*5.6
	now.temperature = math.Round(31 + now.utilisation*0.34)
	return now
}

// WriteMetrics writes the exposition text of all GPUs; owners are keyed by UUID.
func WriteMetrics(out io.Writer, inventory Inventory, owners map[string]Owner, at time.Time) error {
	seconds := float64(at.UnixMilli()) / 1000
	memory := float64(inventory.MemoryMiB)
	var text strings.Builder
	for _, metric := range metrics {
		fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n", metric.name, metric.help, metric.name, metric.kind)
		for _, gpu := range inventory.GPUs {
			owner, owned := owners[gpu.UUID]
			labels := fmt.Sprintf(
				`gpu="%d",UUID="%s",pci_bus_id="00000000:%02X:00.0",device="nvidia%d",modelName="%s",Hostname="%s",DCGM_FI_DRIVER_VERSION="%s"`,
				gpu.Index, gpu.UUID, 0x0f+gpu.Index*0x10, gpu.Index, inventory.Model, inventory.Node, driverVersion)
			if owned {
				labels += fmt.Sprintf(`,container="%s",namespace="%s",pod="%s"`, owner.Container, owner.Namespace, owner.Pod)
			}
			value := metric.value(gpu, read(gpu, owned, memory, seconds), memory, seconds)
			fmt.Fprintf(&text, "%s{%s} %f\n", metric.name, labels, value)
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}
