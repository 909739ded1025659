// Consume prints the records of billbus topics, one JSON line a record: consume DAY TOPIC...
//
// DAY is where a group begins that never read before: a date (midnight UTC) or an instant with its offset,
// such as 2026-11-20T00:00:00-06:00. A group that did read goes on where it ended.
// Environment: KAFKA, REGISTRY, GROUP; KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA where the brokers ask for them.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/pkg/sr"
)

var (
	kafka    = cmp.Or(os.Getenv("KAFKA"), "127.0.0.1:19092")
	registry = cmp.Or(os.Getenv("REGISTRY"), "http://127.0.0.1:18081/apis/ccompat/v7")
	group    = cmp.Or(os.Getenv("GROUP"), "another-team-in-go")
)

const millis = "2006-01-02T15:04:05.000Z"

// login is how one gets in, where the brokers ask who comes.
func login() ([]kgo.Opt, error) {
	user := os.Getenv("KAFKA_USER")
	if user == "" {
		return nil, nil
	}
	trusted := &tls.Config{}
	if file := os.Getenv("KAFKA_CA"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		trusted.RootCAs = x509.NewCertPool()
		if !trusted.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", file)
		}
	}
	proof := scram.Auth{User: user, Pass: os.Getenv("KAFKA_PASSWORD")}
	return []kgo.Opt{kgo.DialTLSConfig(trusted), kgo.SASL(proof.AsSha512Mechanism())}, nil
}

type line struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Key       string  `json:"key"`
	ID        *string `json:"id"`
	Time      *string `json:"time"`
	Value     any     `json:"value"` // null in a compacted topic: the key is gone
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("consume DAY TOPIC...")
	}
	since, err := parse(os.Args[1])
	check(err)
	decoder, err := newDecoder()
	check(err)
	access, err := login()
	check(err)
	client, err := kgo.NewClient(append(access,
		kgo.SeedBrokers(kafka),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(os.Args[2:]...),
		// no reset: an offset that is gone is a person's affair
		kgo.ConsumeStartOffset(kgo.NoResetOffset().AfterMilli(since.UnixMilli())),
		kgo.DisableAutoCommit(), // below, when the records are printed
		kgo.BlockRebalanceOnPoll(),
	)...)
	check(err)
	stopped, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for {
		fetches := client.PollRecords(stopped, 500)
		if stopped.Err() != nil {
			break
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			log.Fatalf("%s, partition %d: %v", topic, partition, err)
		})
		fetches.EachRecord(func(record *kgo.Record) {
			read, err := decoder.line(record)
			if err != nil {
				place := fmt.Sprintf("%s, partition %d, offset %d", record.Topic, record.Partition, record.Offset)
				log.Fatalf("%s cannot be read: %v", place, err)
			}
			check(out.Encode(read))
		})
		// at least once: first the effect, then the commit
		check(client.CommitUncommittedOffsets(context.Background()))
		client.AllowRebalance()
	}
	client.AllowRebalance()
	client.Close()
}

func parse(day string) (time.Time, error) {
	if since, err := time.Parse(time.DateOnly, day); err == nil {
		return since, nil
	}
	return time.Parse(time.RFC3339, day)
}

// decoder reads the Confluent wire format: a zero, the schema's id, the Avro body.
type decoder struct {
	registry *sr.Client
	schemas  map[int]*avro.Schema
}

func newDecoder() (*decoder, error) {
	client, err := sr.NewClient(sr.URLs(registry))
	return &decoder{client, map[int]*avro.Schema{}}, err
}

func (d *decoder) line(record *kgo.Record) (line, error) {
	read := line{
		Topic: record.Topic, Partition: record.Partition, Offset: record.Offset, Key: string(record.Key),
	}
	for _, header := range record.Headers {
		value := string(header.Value)
		switch header.Key {
		case "ce_id":
			read.ID = &value
		case "ce_time":
			read.Time = &value
		}
	}
	if record.Value == nil {
		return read, nil
	}
	id, body, err := new(sr.ConfluentHeader).DecodeID(record.Value)
	if err != nil {
		return read, err
	}
	schema, err := d.schema(id)
	if err != nil {
		return read, err
	}
	_, err = schema.Decode(body, &read.Value)
	return read, err
}

func (d *decoder) schema(id int) (*avro.Schema, error) {
	if known, ok := d.schemas[id]; ok {
		return known, nil
	}
	found, err := d.registry.SchemaByID(context.Background(), id)
	if err != nil {
		return nil, err
	}
	parsed, err := avro.Parse(found.Schema, texts...)
	if err == nil {
		d.schemas[id] = parsed
	}
	return parsed, err
}

// texts shows money with its cents, a day, and an instant in UTC with its milliseconds.
// A program that computes leaves it out and gets *big.Rat and time.Time, which are as exact.
var texts = []avro.SchemaOpt{
	avro.CustomType{LogicalType: "decimal", Decode: func(v any, node *avro.SchemaNode) (any, error) {
		raw := v.([]byte)
		unscaled := new(big.Int).SetBytes(raw)
		if len(raw) > 0 && raw[0] >= 0x80 { // two's complement
			unscaled.Sub(unscaled, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
		}
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(node.Scale)), nil)
		return new(big.Rat).SetFrac(unscaled, unit).FloatString(node.Scale), nil
	}},
	avro.CustomType{LogicalType: "date", Decode: func(v any, _ *avro.SchemaNode) (any, error) {
		return time.Unix(int64(v.(int32))*86400, 0).UTC().Format(time.DateOnly), nil
	}},
	avro.CustomType{LogicalType: "timestamp-millis", Decode: func(v any, _ *avro.SchemaNode) (any, error) {
		return time.UnixMilli(v.(int64)).UTC().Format(millis), nil
	}},
}

func check(err error) {
	if err != nil {
		log.Fatal(fmt.Errorf("consume: %w", err))
	}
}
