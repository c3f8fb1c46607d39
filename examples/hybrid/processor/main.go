// Takes orders from the topic, asks the user service whose they are, and tells of each in the topic of notifications.
// An order is committed once its notification is stored: after a crash it is told of again rather than not at all.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/segmentio/kafka-go"

	"wiremill/hybrid/setting"
)

type order struct {
	Payload struct {
		ID   int    `json:"id"`
		User string `json:"user"`
	} `json:"payload"`
}

type user struct {
	Email string `json:"email"`
}

type notification struct {
	To    string `json:"to"`
	Order int    `json:"order"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	broker := setting.Of("WIREMILL_KAFKA", "127.0.0.1:9092")
	connection, err := nats.Connect("nats://" + setting.Of("WIREMILL_NATS", "127.0.0.1:4222"))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	orders := kafka.NewReader(kafka.ReaderConfig{
		Brokers:     []string{broker},
		GroupID:     setting.Of("GROUP", "order-processor"),
		Topic:       setting.Of("ORDERS", "orders"),
		StartOffset: kafka.FirstOffset,
		// One that was killed is missed soon.
		SessionTimeout:    6 * time.Second,
		HeartbeatInterval: 2 * time.Second,
	})
	defer orders.Close()
	notifications := &kafka.Writer{
		Addr:         kafka.TCP(broker),
		Topic:        setting.Of("NOTIFICATIONS", "notifications"),
		Balancer:     &kafka.Hash{},
		RequiredAcks: kafka.RequireAll,
		BatchTimeout: 5 * time.Millisecond,
	}
	defer notifications.Close()
	fmt.Println("processing")
	for {
		message, err := orders.FetchMessage(ctx)
		if err != nil {
			break // told to stop
		}
		if err := process(ctx, connection, notifications, message); err != nil {
			log.Fatal(err)
		}
		if err := orders.CommitMessages(ctx, message); err != nil {
			log.Fatal(err)
		}
	}
}

func process(ctx context.Context, connection *nats.Conn, notifications *kafka.Writer, message kafka.Message) error {
	var placed order
	if err := json.Unmarshal(message.Value, &placed); err != nil {
		return err
	}
	answer, err := connection.Request(setting.Of("USERS", "api.users.get"), []byte(placed.Payload.User), 2*time.Second)
	if err != nil {
		return err
	}
	var owner user
	if err := json.Unmarshal(answer.Data, &owner); err != nil {
		return err
	}
	body, err := json.Marshal(notification{To: owner.Email, Order: placed.Payload.ID})
	if err != nil {
		return err
	}
	return notifications.WriteMessages(ctx, kafka.Message{Key: message.Key, Value: body})
}
