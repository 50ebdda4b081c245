// SPDX-License-Identifier: GPL-2.0-only

// Target of golang.py: goroutines, channels, timers, a garbage collector and a TCP server, all static.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type chain struct {
	sync.Mutex
	count  int
	digest [32]byte
}

func (c *chain) run() {
	for {
		c.Lock()
		for i := 0; i < 100; i++ {
			c.digest = sha256.Sum256(c.digest[:])
		}
		c.count += 100
		c.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}

func main() {
	runtime.GOMAXPROCS(4)
	chains := make([]*chain, 8)
	for i := range chains {
		chains[i] = &chain{digest: sha256.Sum256([]byte(fmt.Sprint(i)))}
		go chains[i].run()
	}
	// a ring of goroutines: a token's count tells whether any hop was lost
	const ring = 200
	channels := make([]chan uint64, ring)
	var hops uint64
	for i := range channels {
		channels[i] = make(chan uint64, 1)
	}
	for i := range channels {
		go func(in, out chan uint64) {
			for v := range in {
				if !atomic.CompareAndSwapUint64(&hops, v, v+1) {
					fmt.Fprintln(os.Stderr, "a hop was lost")
					os.Exit(3)
				}
				if v%1000 == 0 {
					time.Sleep(time.Millisecond)
				}
				out <- v + 1
			}
		}(channels[i], channels[(i+1)%ring])
	}
	channels[0] <- 0
	data := map[int][]byte{}
	for i := 0; i < 20000; i++ {
		s := sha256.Sum256([]byte(fmt.Sprint("data", i)))
		data[i] = s[:]
	}
	var ticks int64
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			atomic.AddInt64(&ticks, 1)
		}
	}()
	go func() { // work for the collector
		for {
			junk := make([][]byte, 0)
			for i := 0; i < 1000; i++ {
				junk = append(junk, make([]byte, 1+i%4096))
			}
			runtime.KeepAlive(junk)
			time.Sleep(20 * time.Millisecond)
		}
	}()

	l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				words := strings.Fields(lines.Text())
				switch words[0] {
				case "chain":
					var n int
					fmt.Sscan(words[1], &n)
					c := chains[n]
					c.Lock()
					fmt.Fprintf(conn, "%d %s\n", c.count, hex.EncodeToString(c.digest[:]))
					c.Unlock()
				case "hops":
					fmt.Fprintf(conn, "%d\n", atomic.LoadUint64(&hops))
				case "ticks":
					fmt.Fprintf(conn, "%d\n", atomic.LoadInt64(&ticks))
				case "data":
					h := sha256.New()
					for i := 0; i < len(data); i++ {
						h.Write(data[i])
					}
					runtime.GC()
					fmt.Fprintf(conn, "%d %s\n", len(data), hex.EncodeToString(h.Sum(nil)))
				}
			}
		}()
	}
}
