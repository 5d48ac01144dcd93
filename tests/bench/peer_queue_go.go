// peer_queue_go.go FIGURE - Go's channels: prints ns per item, or us for `_wait999`; `version`
// prints what compiled it. The figures are those of bench_queue.c, which has the same loops.
package main

import (
	"fmt"
	"math"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"time"
)

// How many calls took how many ns, in steps of 1/64, as bench.h has it.
const steps = 64

type histogram [steps * 60]uint64

func (h *histogram) add(ns uint64) {
	shift := uint(0)
	if ns >= steps {
		shift = uint(57 - bits.LeadingZeros64(ns))
	}
	h[shift*steps+uint(ns>>shift)]++
}

// The time in ns that the given share of the calls did not exceed.
func (h *histogram) quantile(share float64) float64 {
	var total, seen uint64
	for _, count := range h {
		total += count
	}
	at := 0
	for ; at+1 < len(h); at++ {
		seen += h[at]
		if float64(seen) >= share*float64(total) {
			break
		}
	}
	shift := 0
	if at >= 2*steps {
		shift = at/steps - 1
	}
	return math.Ldexp(float64(at-shift*steps)+0.5, shift)
}

var base = time.Now()

// Read by one reading of the monotonic clock, as in the loops of bench_queue.c.
func now() uint64 {
	return uint64(time.Since(base))
}

func produce(channel chan<- uint64, items uint64) {
	for i := uint64(0); i < items; i++ {
		channel <- i
	}
}

func consume(channel <-chan uint64) uint64 {
	sum := uint64(0)
	for item := range channel {
		sum += item
	}
	return sum
}

func produceTimed(channel chan<- uint64, items uint64, waits *histogram) {
	for i := uint64(0); i < items; i++ {
		before := now()
		channel <- i
		waits.add(now() - before)
	}
}

func consumeTimed(channel <-chan uint64, waits *histogram) uint64 {
	sum := uint64(0)
	for {
		before := now()
		item, ok := <-channel
		waits.add(now() - before)
		if !ok {
			return sum
		}
		sum += item
	}
}

// Sends `items` from `pairs` producers to as many consumers; ns per item. With histograms, two for
// each pair, it measures each call.
func flow(pairs, capacity int, items uint64, waits []histogram) float64 {
	channel := make(chan uint64, capacity)
	sums := make([]uint64, 8*pairs)
	each := items / uint64(pairs)
	var producers, consumers sync.WaitGroup
	producers.Add(pairs)
	consumers.Add(pairs)
	began := time.Now()
	for i := 0; i < pairs; i++ {
		go func(i int) {
			if waits != nil {
				produceTimed(channel, each, &waits[2*i])
			} else {
				produce(channel, each)
			}
			producers.Done()
		}(i)
		go func(i int) {
			if waits != nil {
				sums[8*i] = consumeTimed(channel, &waits[2*i+1])
			} else {
				sums[8*i] = consume(channel)
			}
			consumers.Done()
		}(i)
	}
	producers.Wait()
	close(channel)
	consumers.Wait()
	lasted := time.Since(began)
	sum := uint64(0)
	for i := 0; i < pairs; i++ {
		sum += sums[8*i]
	}
	if sum != each*(each-1)/2*uint64(pairs) {
		panic("items got lost")
	}
	return float64(lasted) / float64(each*uint64(pairs))
}

// The figure of a run after one, a quarter as long, to warm up.
func warm(pairs, capacity int, items uint64) float64 {
	flow(pairs, capacity, items/4, nil)
	return flow(pairs, capacity, items, nil)
}

// The time in us that 99.9 % of the calls did not exceed.
func wait999(pairs, capacity int, items uint64) float64 {
	waits := make([]histogram, 2*pairs)
	flow(pairs, capacity, items/4, nil)
	flow(pairs, capacity, items, waits)
	for i := 1; i < len(waits); i++ {
		for at, count := range waits[i] {
			waits[0][at] += count
		}
	}
	return waits[0].quantile(0.999) / 1000
}

func main() {
	figure := ""
	if len(os.Args) > 1 {
		figure = os.Args[1]
	}
	var value float64
	switch figure {
	case "version":
		fmt.Println(runtime.Version())
		return
	case "fifo_2p2c":
		value = warm(2, 1024, 4000000)
	case "fifo_2p2c_wait999":
		value = wait999(2, 1024, 2000000)
	case "fifo_8p8c":
		value = warm(8, 1024, 4000000)
	case "fifo_8p8c_wait999":
		value = wait999(8, 1024, 2000000)
	case "fifo_cap1":
		value = warm(1, 1, 2000000)
	default:
		fmt.Fprintf(os.Stderr, "peer_queue_go: no figure '%s'\n", figure)
		os.Exit(2)
	}
	fmt.Printf("%.3f\n", value)
}
