// peer_pool_go.go FIGURE - goroutines and a WaitGroup: prints ns per task; `version` prints what
// compiled it. The figures are those of bench_pool.c, which has the same loops.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// Starts `tasks` goroutines that do nothing, and waits for all of them; ns per goroutine.
func empty(tasks int) float64 {
	var group sync.WaitGroup
	began := time.Now()
	for i := 0; i < tasks; i++ {
		group.Add(1)
		go func() {
			group.Done()
		}()
	}
	group.Wait()
	return float64(time.Since(began)) / float64(tasks)
}

func main() {
	figure := ""
	if len(os.Args) > 1 {
		figure = os.Args[1]
	}
	workers, err := strconv.Atoi(os.Getenv("MTASK_BENCH_WORKERS"))
	if err != nil || workers < 1 {
		workers = 2
	}
	runtime.GOMAXPROCS(workers)
	switch figure {
	case "version":
		fmt.Println(runtime.Version())
	case "submit_empty":
		empty(250000)
		fmt.Printf("%.3f\n", empty(1000000))
	default:
		fmt.Fprintf(os.Stderr, "peer_pool_go: no figure '%s'\n", figure)
		os.Exit(2)
	}
}
