package main

import (
	"sync"
	"time"
)

// payment is one post, whichever wire form it came in. Seq numbers an account's payments from 1.
type payment struct {
	GUID    string `json:"guid"`
	Account string `json:"account"`
	Seq     int64  `json:"seq"`
	Amount  string `json:"amount"`
}

// entry is a payment as first posted; Posts above 1 is a doubled payment.
type entry struct {
	payment
	Posts int `json:"posts"`
}

// report holds counts, unix times in seconds and lengths in seconds.
type report struct {
	Posts           int     `json:"posts"`
	Distinct        int     `json:"distinct"`
	Doubled         int     `json:"doubled"`
	OrderViolations int     `json:"order_violations"`
	MaxConcurrent   int     `json:"max_concurrent"`
	FirstPost       float64 `json:"first_post"`
	LastPost        float64 `json:"last_post"`
	LastAnswer      float64 `json:"last_answer"`
	Stall           float64 `json:"stall"`
	StallAfter      int     `json:"stall_after"` // posts before the longest gap
	WarmFrom        float64 `json:"warm_from"`   // time of the distinct post number ?warm_after=N
	Others          int     `json:"others"`      // distinct posts of all accounts but the one kept apart
	OthersLast      float64 `json:"others_last"` // arrival of the last of them
}

// ledger applies every post it is given: nothing is deduplicated.
type ledger struct {
	mu         sync.Mutex
	entries    map[string]*entry
	highest    map[string]int64 // account to its highest first-time seq
	firstTimes []time.Time      // arrival of each distinct guid
	apart      string           // an account that is counted apart
	othersLast time.Time
	concurrent int
	totals     report
	first      time.Time
	last       time.Time
	lastAnswer time.Time
	stall      time.Duration
}

func newLedger(apart string) *ledger {
	return &ledger{apart: apart, entries: make(map[string]*entry), highest: make(map[string]int64)}
}

func (l *ledger) enter() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.concurrent++
	l.totals.MaxConcurrent = max(l.totals.MaxConcurrent, l.concurrent)
}

func (l *ledger) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.concurrent--
}

func (l *ledger) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastAnswer = time.Now()
}

func (l *ledger) apply(p payment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.totals.Posts == 0 {
		l.first = now
	} else if gap := now.Sub(l.last); gap > l.stall {
		l.stall, l.totals.StallAfter = gap, l.totals.Posts
	}
	l.last = now
	l.totals.Posts++
	if known := l.entries[p.GUID]; known != nil {
		known.Posts++
		if known.Posts == 2 {
			l.totals.Doubled++
		}
		return
	}
	l.entries[p.GUID] = &entry{payment: p, Posts: 1}
	l.firstTimes = append(l.firstTimes, now)
	if p.Account != l.apart {
		l.totals.Others++
		l.othersLast = now
	}
	if highest, seen := l.highest[p.Account]; seen && p.Seq < highest {
		l.totals.OrderViolations++
	} else {
		l.highest[p.Account] = p.Seq
	}
}

func (l *ledger) lookUp(guid string) (entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.entries[guid]; known != nil {
		return *known, true
	}
	return entry{}, false
}

func (l *ledger) report(warmAfter int) report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.totals
	r.Distinct = len(l.entries)
	r.FirstPost, r.LastPost, r.LastAnswer = unix(l.first), unix(l.last), unix(l.lastAnswer)
	r.OthersLast, r.Stall = unix(l.othersLast), l.stall.Seconds()
	if warmAfter < len(l.firstTimes) {
		r.WarmFrom = unix(l.firstTimes[warmAfter])
	}
	return r
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
