// peer_coro_go.go FIGURE - goroutines, channels and timers: prints the figure; `version` prints what
// compiled it. The figures are those of bench_coro.c, which has the same loops. All but the last run
// on one processor of Go's, as the tasks of one loop do.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	spawns       = 1000000
	pingpongs    = 1500000
	yieldTasks   = 1000
	yields       = 6000
	sleepers     = 100000
	parked       = 1000000
	roundtrips   = 20000
	oneSleep     = time.Second
	sleepSettled = oneSleep / 2
)

// CPU time of the process, in ns, as bench_coro.c measures what never waits.
func cpu() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

// Bytes of memory that the process has now.
func resident() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		panic(err)
	}
	return float64(pages * os.Getpagesize())
}

// Starts a goroutine and waits for it; ns.
func spawnJoin(times int) float64 {
	done := make(chan bool)
	began := cpu()
	for i := 0; i < times; i++ {
		go func() {
			done <- true
		}()
		<-done
	}
	return (cpu() - began) / float64(times)
}

// Sends a number to another goroutine, which sends it back; ns for both.
func pingpong(times int) float64 {
	there, back := make(chan int), make(chan int)
	go func() {
		for item := range there {
			back <- item
		}
	}()
	began := cpu()
	for i := 0; i < times; i++ {
		there <- i
		if <-back != i {
			panic("another item came back")
		}
	}
	lasted := cpu() - began
	close(there)
	return lasted / float64(times)
}

// All goroutines give way to each other again and again; ns for each time.
func yieldRound(times int) float64 {
	var group sync.WaitGroup
	group.Add(yieldTasks)
	began := cpu()
	for i := 0; i < yieldTasks; i++ {
		go func() {
			for k := 0; k < times; k++ {
				runtime.Gosched()
			}
			group.Done()
		}()
	}
	group.Wait()
	return (cpu() - began) / yieldTasks / float64(times)
}

// Goroutines that sleep for a second together; seconds of CPU time.
func sleep() float64 {
	var group sync.WaitGroup
	group.Add(sleepers)
	began := cpu()
	for i := 0; i < sleepers; i++ {
		go func() {
			time.Sleep(oneSleep)
			group.Done()
		}()
	}
	group.Wait()
	return (cpu() - began) / 1e9
}

// Bytes for each of them.
func sleepBytes() float64 {
	var group sync.WaitGroup
	group.Add(sleepers)
	before := resident()
	for i := 0; i < sleepers; i++ {
		go func() {
			time.Sleep(oneSleep)
			group.Done()
		}()
	}
	time.Sleep(sleepSettled)
	bytes := resident() - before
	group.Wait()
	return bytes / sleepers
}

// Bytes for each of many goroutines that wait to receive.
func parkedBytes() float64 {
	var group sync.WaitGroup
	gate := make(chan int)
	waiting := 0
	group.Add(parked)
	before := resident()
	for i := 0; i < parked; i++ {
		go func() {
			waiting++
			<-gate
			group.Done()
		}()
	}
	for waiting < parked {
		runtime.Gosched()
	}
	bytes := resident() - before
	close(gate)
	group.Wait()
	return bytes / parked
}

// Goes over from one thread to another one and back; us for one way.
func threads(times int) float64 {
	there, back := make(chan int, 1), make(chan int, 1)
	go func() {
		runtime.LockOSThread()
		for item := range there {
			back <- item
		}
	}()
	runtime.LockOSThread()
	began := time.Now()
	for i := 0; i < times; i++ {
		there <- i
		if <-back != i {
			panic("another item came back")
		}
	}
	lasted := time.Since(began)
	close(there)
	return float64(lasted) / float64(times) / 2 / 1000
}

// The figure of a run after one, a quarter as long, to warm up.
func warm(run func(int) float64, times int) float64 {
	run(times / 4)
	return run(times)
}

func main() {
	figure := ""
	if len(os.Args) > 1 {
		figure = os.Args[1]
	}
	if figure == "thread_to_coro" {
		fmt.Printf("%.3f\n", warm(threads, roundtrips))
		return
	}
	runtime.GOMAXPROCS(1)
	var value float64
	switch figure {
	case "version":
		fmt.Println(runtime.Version())
		return
	case "spawn_join":
		value = warm(spawnJoin, spawns)
	case "chan_pingpong":
		value = warm(pingpong, pingpongs)
	case "yield_round":
		value = warm(yieldRound, yields)
	case "sleepers_100k":
		value = sleep()
	case "sleepers_100k_bytes":
		value = sleepBytes()
	case "million_parked":
		value = parkedBytes()
	default:
		fmt.Fprintf(os.Stderr, "peer_coro_go: no figure '%s'\n", figure)
		os.Exit(2)
	}
	fmt.Printf("%.6f\n", value)
}
