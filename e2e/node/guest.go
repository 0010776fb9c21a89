// What the pods of the node run that are not the operator: nothing, or a look at a Secret (`look FOLDER
// PREFIX`), which tells the digest of each file of the folder and of each variable with that prefix, whenever they are
// other ones than before.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	if len(os.Args) == 4 && os.Args[1] == "look" {
		go look(os.Args[2], os.Args[3])
	}
	<-stop
}

func look(folder, prefix string) {
	for before := ""; ; time.Sleep(100 * time.Millisecond) {
		lines := append(files(folder), variables(prefix)...)
		sort.Strings(lines)
		if now := strings.Join(lines, " "); now != before {
			before = now
			fmt.Println(now)
		}
	}
}

func files(folder string) (lines []string) {
	paths, _ := filepath.Glob(filepath.Join(folder, "[^.]*"))
	for _, path := range paths {
		if content, err := os.ReadFile(path); err == nil {
			lines = append(lines, told("file", filepath.Base(path), content))
		}
	}
	return lines
}

func variables(prefix string) (lines []string) {
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, prefix) {
			lines = append(lines, told("variable", name, []byte(value)))
		}
	}
	return lines
}

func told(what, name string, content []byte) string {
	return fmt.Sprintf("%s:%s:%x", what, name, sha256.Sum256(content))
}
