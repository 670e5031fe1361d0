// One client and one case in a process of its own, on a topic that exists: franz-go as a candidate of `./dev bench`. What the
// options and the fields of a line mean is written in bench/README.md. Ends with another code than 0 when a message was lost.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const patience = 30 * time.Second

type options struct {
	client, op, topic, payload, codec, acks, batch, way string
	port, bytes, count, windows, rate, threads          int
}

func parse() (*options, error) {
	o := &options{}
	flag.StringVar(&o.client, "client", "franz-go", "")
	flag.StringVar(&o.op, "op", "", "produce | consume | paced | latency")
	flag.StringVar(&o.topic, "topic", "", "")
	flag.StringVar(&o.payload, "payload", "plain", "plain | json")
	flag.StringVar(&o.codec, "codec", "none", "none | snappy | gzip | lz4 | zstd")
	flag.StringVar(&o.acks, "acks", "1", "1 | all")
	flag.StringVar(&o.batch, "batch", "default", "default | tuned")
	flag.StringVar(&o.way, "way", "", "")
	flag.IntVar(&o.port, "port", 0, "")
	flag.IntVar(&o.bytes, "bytes", 0, "")
	flag.IntVar(&o.count, "count", 0, "")
	flag.IntVar(&o.windows, "windows", 0, "")
	flag.IntVar(&o.rate, "rate", 0, "")
	flag.IntVar(&o.threads, "threads", 1, "")
	flag.Parse()
	if o.topic == "" || o.port == 0 || o.bytes < 1 || o.count < 1 || o.windows < 1 {
		return nil, errors.New("--topic, --port, --bytes, --count and --windows are needed")
	}
	return o, nil
}

func main() {
	o, err := parse()
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o *options) error {
	switch o.op {
	case "produce", "paced":
		return produce(o)
	case "consume":
		return consume(o)
	case "latency":
		return latency(o)
	}
	return fmt.Errorf("franz-go does not do %q", o.op)
}

func seeds(o *options) kgo.Opt {
	return kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", o.port))
}

// A producer with batches of 64 KB and 5 ms, which suit it better than its defaults, and its reports.
type sender struct {
	client       *kgo.Client
	topic        string
	done, failed atomic.Int64
	report       func(*kgo.Record, error)
}

func newSender(o *options) (*sender, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "snappy": kgo.SnappyCompression(), "gzip": kgo.GzipCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, known := codecs[o.codec]
	if !known {
		return nil, fmt.Errorf("no codec %q", o.codec)
	}
	opts := []kgo.Opt{seeds(o), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.ProducerBatchMaxBytes(65536), kgo.MaxBufferedRecords(10_000)}
	if o.op == "latency" {
		opts = append(opts, kgo.ProducerLinger(0))
	}
	if o.batch == "tuned" {
		opts = append(opts, kgo.ProducerBatchMaxBytes(1_000_000), kgo.MaxBufferedRecords(100_000))
	}
	if o.acks == "all" {
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	} else {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(5))
	}
	client, err := kgo.NewClient(opts...)
	s := &sender{client: client, topic: o.topic}
	s.report = func(_ *kgo.Record, err error) {
		if err != nil {
			s.failed.Add(1)
		}
		s.done.Add(1)
	}
	return s, err
}

func (s *sender) send(value []byte) {
	s.client.Produce(context.Background(), &kgo.Record{Topic: s.topic, Value: value}, s.report)
}

func (s *sender) flush(sent int) error {
	if err := s.client.Flush(context.Background()); err != nil {
		return err
	}
	if done, failed := s.done.Load(), s.failed.Load(); done != int64(sent) || failed > 0 {
		return fmt.Errorf("of %d messages sent %d were reported and %d failed", sent, done, failed)
	}
	return nil
}

func produce(o *options) error {
	payloads := payloads(o)
	s, err := newSender(o)
	if err != nil {
		return err
	}
	defer s.client.Close()
	for w := 0; w < o.windows; w++ {
		window := startWindow(o, w)
		if o.op == "paced" {
			paced(o, s, payloads)
		} else {
			for i := 0; i < o.count; i++ {
				s.send(payloads[i%len(payloads)])
			}
		}
		if err := s.flush((w + 1) * o.count); err != nil {
			return err
		}
		window.end(nil)
	}
	return nil
}

// So many messages a second, each millisecond those that are due.
func paced(o *options, s *sender, payloads [][]byte) {
	start := time.Now()
	for tick, sent := 1, 0; sent < o.count; tick++ {
		time.Sleep(time.Until(start.Add(time.Duration(tick) * time.Millisecond)))
		for ; sent < min(o.count, tick*o.rate/1000); sent++ {
			s.send(payloads[sent%len(payloads)])
		}
	}
}

// All partitions from `at` on.
func (o *options) from(client *kgo.Client, at kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	request := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(o.topic)
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(context.Background(), client)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]kgo.Offset{}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			offsets[p.Partition] = at
		}
	}
	return map[string]map[int32]kgo.Offset{o.topic: offsets}, nil
}

func newReader(o *options, at kgo.Offset) (*kgo.Client, map[string]map[int32]kgo.Offset, error) {
	// A fetch that waits at the end of the topic, where each window ends, would hold the next window up.
	wait := 500 * time.Millisecond
	if o.op == "consume" {
		wait = 20 * time.Millisecond
	}
	client, err := kgo.NewClient(seeds(o), kgo.FetchMaxWait(wait))
	if err != nil {
		return nil, nil, err
	}
	offsets, err := o.from(client, at)
	return client, offsets, err
}

func read(client *kgo.Client, count int, each func([]byte)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	for n := 0; n < count; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d of %d messages: %w", n, count, err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			each(record.Value)
			n++
		})
	}
	return nil
}

func consume(o *options) error {
	client, offsets, err := newReader(o, kgo.NewOffset().AtStart())
	if err != nil {
		return err
	}
	defer client.Close()
	for w := 0; w < o.windows; w++ {
		window := startWindow(o, w)
		client.AddConsumePartitions(offsets)
		sum := 0
		if err := read(client, o.count, func(value []byte) { sum += len(value) }); err != nil {
			return err
		}
		window.end(nil)
		if sum != o.count*o.bytes {
			return fmt.Errorf("read %d bytes: the topic must hold exactly %d messages of %d", sum, o.count, o.bytes)
		}
		all := map[string][]int32{}
		for partition := range offsets[o.topic] {
			all[o.topic] = append(all[o.topic], partition)
		}
		client.RemoveConsumePartitions(all)
	}
	return nil
}

// From when a message was due until a consumer in the same process has it.
func latency(o *options) error {
	value := payloads(o)[0]
	if len(value) < 8 {
		return errors.New("latency needs --bytes of at least 8")
	}
	s, err := newSender(o)
	if err != nil {
		return err
	}
	defer s.client.Close()
	client, offsets, err := newReader(o, kgo.NewOffset().AtEnd())
	if err != nil {
		return err
	}
	defer client.Close()
	client.AddConsumePartitions(offsets)
	// The end is looked up when the reader first asks.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	client.PollFetches(ctx)
	cancel()
	zero := time.Now()
	type result struct {
		latencies []time.Duration
		err       error
	}
	results := make(chan result, o.windows)
	go func() {
		for w := 0; w < o.windows; w++ {
			var r result
			r.err = read(client, o.count, func(value []byte) {
				due := time.Duration(binary.BigEndian.Uint64(value))
				r.latencies = append(r.latencies, time.Since(zero)-due)
			})
			results <- r
		}
	}()
	for w := 0; w < o.windows; w++ {
		window := startWindow(o, w)
		start := time.Now()
		for i := 0; i < o.count; i++ {
			due := start.Add(time.Duration(i) * time.Second / time.Duration(o.rate))
			time.Sleep(time.Until(due))
			// The client keeps the slice until it was sent.
			mine := append([]byte(nil), value...)
			binary.BigEndian.PutUint64(mine, uint64(due.Sub(zero)))
			s.send(mine)
		}
		r := <-results
		if r.err != nil {
			return r.err
		}
		window.end(r.latencies)
		if err := s.flush((w + 1) * o.count); err != nil {
			return err
		}
	}
	return nil
}
