package kafka_test

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawBatch is a produce request with one record, with a producer identity of the caller's choice. Send it
// with a client pinned below version 13, which names topics by id.
func rawBatch(topic string, producerID int64, epoch int16, sequence int32) *kmsg.ProduceRequest {
	record := kmsg.NewRecord()
	record.Value = []byte("value")
	body := record.AppendTo(nil)
	record.Length = int32(len(body) - 1)
	batch := kmsg.NewRecordBatch()
	batch.PartitionLeaderEpoch = -1
	batch.Magic = 2
	batch.FirstTimestamp = time.Now().UnixMilli()
	batch.MaxTimestamp = batch.FirstTimestamp
	batch.ProducerID = producerID
	batch.ProducerEpoch = epoch
	batch.FirstSequence = sequence
	batch.NumRecords = 1
	batch.Records = record.AppendTo(nil)
	bytes := batch.AppendTo(nil)
	batch.Length = int32(len(bytes) - 12)
	bytes = batch.AppendTo(nil)
	const crcAt, coveredFrom = 17, 21
	binary.BigEndian.PutUint32(bytes[crcAt:], crc32.Checksum(bytes[coveredFrom:], crc32.MakeTable(crc32.Castagnoli)))

	request := kmsg.NewPtrProduceRequest()
	request.Acks = -1
	request.TimeoutMillis = 10_000
	partition := kmsg.NewProduceRequestTopicPartition()
	partition.Records = bytes
	named := kmsg.NewProduceRequestTopic()
	named.Topic = topic
	named.Partitions = append(named.Partitions, partition)
	request.Topics = append(request.Topics, named)
	return request
}
