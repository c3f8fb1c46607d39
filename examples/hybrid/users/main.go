// One instance of the user service: answers who a user is. Instances share the requests.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats.go"

	"wiremill/hybrid/setting"
)

type user struct {
	ID    string `json:"id"`
	Email string `json:"email"`
}

func main() {
	connection, err := nats.Connect("nats://" + setting.Of("WIREMILL_NATS", "127.0.0.1:4222"))
	if err != nil {
		log.Fatal(err)
	}
	answer := func(request *nats.Msg) {
		id := string(request.Data)
		body, err := json.Marshal(user{ID: id, Email: id + "@example.com"})
		if err == nil {
			err = request.Respond(body)
		}
		if err != nil {
			log.Print(err)
		}
	}
	if _, err := connection.QueueSubscribe(setting.Of("USERS", "api.users.get"), "users", answer); err != nil {
		log.Fatal(err)
	}
	if err := connection.Flush(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("serving")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	if err := connection.Drain(); err != nil {
		log.Fatal(err)
	}
}
