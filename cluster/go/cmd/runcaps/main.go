// runcaps stands before runc: it takes out of a container's (or an exec's) request the capabilities that this
// machine's bounding set does not have, and then becomes runc. An engine that answers --privileged with every
// capability the kernel knows fails in runc on the first one that cannot be had.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// In the order of the kernel's include/uapi/linux/capability.h.
var capabilities = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
	BPF CHECKPOINT_RESTORE`)

func main() {
	arguments := os.Args[1:]
	if len(arguments) == 1 && arguments[0] == "probe" {
		return // run inside a privileged container, this says that such containers start
	}
	if err := prepare(arguments); err != nil {
		fail(err)
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		fail(err)
	}
	fail(syscall.Exec(runc, append([]string{"runc"}, arguments...), os.Environ()))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "runcaps:", err)
	os.Exit(1)
}

// prepare rewrites the file in which runc will read the capabilities that it is to give.
func prepare(arguments []string) error {
	available, err := bounding()
	if err != nil {
		return err
	}
	for i, argument := range arguments {
		switch argument {
		case "create", "run":
			bundle := option(arguments[i:], "--bundle", "-b")
			return rewrite(filepath.Join(bundle, "config.json"), "process", available)
		case "exec":
			if process := option(arguments[i:], "--process", "-p"); process != "" {
				return rewrite(process, "", available)
			}
			return nil
		}
	}
	return nil
}

// option is the value of a flag, given as two words or with an equals sign.
func option(arguments []string, names ...string) string {
	for i, argument := range arguments {
		for _, name := range names {
			if argument == name && i+1 < len(arguments) {
				return arguments[i+1]
			}
			if value, ok := strings.CutPrefix(argument, name+"="); ok {
				return value
			}
		}
	}
	return ""
}

// bounding is the set of capabilities that this process could give.
func bounding() (map[string]bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		value, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil, err
		}
		available := map[string]bool{}
		for i, name := range capabilities {
			available["CAP_"+name] = bits>>i&1 == 1
		}
		return available, nil
	}
	return nil, fmt.Errorf("/proc/self/status has no line CapBnd")
}

// rewrite drops what is not available from every set of capabilities below the key (or at the top) of a JSON file.
func rewrite(path, key string, available map[string]bool) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	process := spec
	if key != "" {
		process, _ = spec[key].(map[string]any)
	}
	sets, _ := process["capabilities"].(map[string]any)
	if !drop(sets, available) {
		return nil
	}
	out, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(path, out, 0o600)
}

// drop says whether it took anything out.
func drop(sets map[string]any, available map[string]bool) bool {
	dropped := false
	for name, value := range sets {
		list, _ := value.([]any)
		kept := []any{}
		for _, capability := range list {
			if available[fmt.Sprint(capability)] {
				kept = append(kept, capability)
			} else {
				dropped = true
			}
		}
		sets[name] = kept
	}
	return dropped
}
