package main

import (
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// One window of a run: from its making to its end, which prints what it cost as a line of JSON.
type window struct {
	o         *options
	number    int
	user, sys time.Duration
	started   time.Time
}

func usage() (user, sys time.Duration) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
}

func startWindow(o *options, number int) *window {
	user, sys := usage()
	return &window{o, number, user, sys, time.Now()}
}

func (w *window) end(latencies []time.Duration) {
	seconds := time.Since(w.started).Seconds()
	user, sys := usage()
	n := float64(w.o.count)
	u, s := float64(user-w.user)/n, float64(sys-w.sys)/n
	slices.Sort(latencies)
	quantile := func(q float64) string {
		if len(latencies) == 0 {
			return "null"
		}
		at := min(int(float64(len(latencies))*q), len(latencies)-1)
		return fmt.Sprintf("%.1f", float64(latencies[at])/1e3)
	}
	fmt.Printf("{\"client\":%q,\"op\":%q,\"bytes\":%d,\"window\":%d,\"msgs_per_s\":%.0f,\"cpu_ns_per_msg\":%.1f,\"user_ns_per_msg\":%.1f,"+
		"\"sys_ns_per_msg\":%.1f,\"cpu_ns_per_msg_no_jit\":%.1f,\"rss_peak_mb\":%.1f,\"p50_us\":%s,\"p99_us\":%s,\"p999_us\":%s}\n",
		w.o.client, w.o.op, w.o.bytes, w.number, n/seconds, u+s, u, s, u+s, peakMegabytes(), quantile(0.5), quantile(0.99), quantile(0.999))
}

// The most memory this process had until now.
func peakMegabytes() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			var kb float64
			fmt.Sscan(rest, &kb)
			return kb / 1024
		}
	}
	return 0
}

var words = strings.Fields("order customer delivered pending warehouse north south express standard gift invoice paid refund customs fragile weight height label printed returned")

// The values that are sent: a pool, so that making them costs nothing in the window and no single cache line serves all.
func payloads(o *options) [][]byte {
	random := rand.New(rand.NewSource(1))
	made := make([][]byte, 1024)
	for i := range made {
		if o.payload == "plain" {
			made[i] = make([]byte, o.bytes)
			for j := range made[i] {
				made[i][j] = byte(' ' + (i*31+j*7)%90)
			}
			continue
		}
		// JSON as programs send it: names that repeat and values that do not. Snappy makes 0.3 to 0.4 of it.
		var text strings.Builder
		for text.Len() < o.bytes {
			fmt.Fprintf(&text, `{"order_id":%d,"customer":"%x","active":%t,"amount":%g,"updated_at":"2026-01-%dT10:00:00Z","note":"`,
				random.Intn(1_000_000_000), random.Uint64(), random.Intn(2) == 0, float64(random.Intn(100_000))/100, 10+random.Intn(20))
			for range 6 {
				text.WriteString(words[random.Intn(len(words))] + " ")
			}
			text.WriteString("\"}\n")
		}
		made[i] = []byte(text.String()[:o.bytes])
	}
	return made
}
