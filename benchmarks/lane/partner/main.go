// Partner is a payment service with a fixed service time and a ledger that shows what really arrived:
// lost, doubled and out-of-order posts. It takes a bare JSON body at /payments, and IMT's DataPump as
// schemas/partners/imt.yaml has it; both cost the same time and stand in the same ledger.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"
)

const bodyLimit = 64 << 10

type server struct {
	ledger *ledger
	delay  time.Duration
}

// take answers after the service time; `read` makes a payment of a body.
func (s *server) take(read func(*json.Decoder) (payment, error), answer func(http.ResponseWriter, payment)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.ledger.enter()
		defer s.ledger.leave()
		p, err := read(json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyLimit)))
		if err != nil || p.GUID == "" || p.Account == "" {
			no(w, http.StatusBadRequest, "MALFORMED", "a payment with id and account was expected")
			return
		}
		s.ledger.apply(p)
		time.Sleep(s.delay)
		s.ledger.answered()
		answer(w, p)
	}
}

func readBare(body *json.Decoder) (p payment, err error) {
	return p, body.Decode(&p)
}

func answerBare(w http.ResponseWriter, _ payment) {
	w.WriteHeader(http.StatusOK)
}

// posting is IMT's form; the benchmark numbers an account's payments in InvoiceNumber.
type posting struct {
	PaymentGUID   string
	AccountNumber string
	InvoiceNumber string
	PaymentAmount string
}

func readPosting(body *json.Decoder) (payment, error) {
	var p posting
	if err := body.Decode(&p); err != nil {
		return payment{}, err
	}
	seq, err := strconv.ParseInt(p.InvoiceNumber, 10, 64)
	return payment{p.PaymentGUID, p.AccountNumber, seq, p.PaymentAmount}, err
}

type posted struct {
	PaymentGUID   string
	Reference     string
	AccountNumber string `json:",omitempty"`
	PaymentAmount string `json:",omitempty"`
	Count         int    `json:",omitempty"`
}

func answerPosting(w http.ResponseWriter, p payment) {
	writeJSON(w, http.StatusCreated, posted{PaymentGUID: p.GUID, Reference: "R-" + p.GUID})
}

func (s *server) lookUp(w http.ResponseWriter, r *http.Request) {
	found, ok := s.ledger.lookUp(r.PathValue("guid"))
	if !ok {
		no(w, http.StatusNotFound, "NOT_FOUND", "no payment of this id")
		return
	}
	p := found.payment
	writeJSON(w, http.StatusOK, posted{p.GUID, "R-" + p.GUID, p.Account, p.Amount, found.Posts})
}

func (s *server) report(w http.ResponseWriter, r *http.Request) {
	warmAfter, _ := strconv.Atoi(r.URL.Query().Get("warm_after"))
	writeJSON(w, http.StatusOK, s.ledger.report(warmAfter))
}

func no(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]string{"Code": code, "Message": message})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(value)
}

func main() {
	address := flag.String("address", "127.0.0.1:0", "listen address; port 0 picks a free one")
	delay := flag.Duration("delay", 20*time.Millisecond, "service time of a post")
	apart := flag.String("apart", "", "account that is counted apart from the others")
	flag.Parse()

	s := &server{ledger: newLedger(*apart), delay: *delay}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /payments", s.take(readBare, answerBare))
	mux.HandleFunc("POST /imt/{insurer}/datapump/payments", s.take(readPosting, answerPosting))
	mux.HandleFunc("GET /imt/{insurer}/datapump/payments/{guid}", s.lookUp)
	mux.HandleFunc("GET /report", s.report)

	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, mux))
}
