// peer_proc_go.go FIGURE - os/exec: prints us for each command; `version` prints what compiled it.
// The figures are those of bench_proc.c, which has the same loops.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

func runTrue() {
	if err := exec.Command("/bin/true").Run(); err != nil {
		panic(err)
	}
}

func runCapture() {
	output, err := exec.Command("/bin/echo", "hello").Output()
	if err != nil || string(output) != "hello\n" {
		panic("wrong output")
	}
}

// Microseconds for each call, after some to warm up.
func usEach(once func(), count int) float64 {
	for i := 0; i < count/4; i++ {
		once()
	}
	began := time.Now()
	for i := 0; i < count; i++ {
		once()
	}
	return float64(time.Since(began).Nanoseconds()) / float64(count) / 1e3
}

func main() {
	figure := ""
	if len(os.Args) > 1 {
		figure = os.Args[1]
	}
	switch figure {
	case "version":
		fmt.Println(runtime.Version())
	case "run_true":
		fmt.Println(usEach(runTrue, 300))
	case "run_capture":
		fmt.Println(usEach(runCapture, 300))
	default:
		fmt.Fprintf(os.Stderr, "peer_proc_go: no figure '%s'\n", figure)
		os.Exit(2)
	}
}
