package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRewriteDropsOnlyWhatIsNotAvailable(t *testing.T) {
	for sentence, test := range map[string]struct{ spec, key, want string }{
		"of a container's process": {
			spec: `{"process":{"capabilities":{"bounding":["CAP_KILL","CAP_SYS_RESOURCE"]}},"n":12345678901234567890}`,
			key:  "process",
			want: `{"n":12345678901234567890,"process":{"capabilities":{"bounding":["CAP_KILL"]}}}`,
		},
		"of an exec's process": {
			spec: `{"capabilities":{"effective":["CAP_SYS_RESOURCE"]}}`,
			want: `{"capabilities":{"effective":[]}}`,
		},
		"and touches no file that asks for nothing more": {
			spec: `{ "capabilities": {"effective": ["CAP_KILL"]} }`,
			want: `{ "capabilities": {"effective": ["CAP_KILL"]} }`,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(path, []byte(test.spec), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := rewrite(path, test.key, map[string]bool{"CAP_KILL": true}); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(path); strings.TrimSpace(string(got)) != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestOptionTakesBothForms(t *testing.T) {
	for _, arguments := range [][]string{{"create", "--bundle", "/b", "id"}, {"create", "--bundle=/b", "id"}, {"create", "-b", "/b"}} {
		if got := option(arguments, "--bundle", "-b"); got != "/b" {
			t.Errorf("%v: %q", arguments, got)
		}
	}
}
