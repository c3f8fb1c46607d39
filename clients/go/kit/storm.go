package kit

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// Tests of overload send many times more than the disk takes: each sync takes 200 ms, and publishers have all that they may
// on their way all the time.
const (
	StormPublishers = 6
	StormBodyLen    = 100_000
	// StormWindow is how many messages of each publisher are on their way: together many times the budget.
	StormWindow    = 1_000
	stormBudgetMiB = 64
	// The process itself, and what connections may hold outside the budget.
	stormBesideMiB = 128
)

// StormArguments are those of a broker for it.
func StormArguments() []string {
	return []string{"--memory-budget-len", fmt.Sprintf("%dMiB", stormBudgetMiB), "--test-sync-delay-ms", "200"}
}

// StormTime is how long it lasts: eight seconds, or as WIREMILL_TEST_OVERLOAD_S says.
func StormTime(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("WIREMILL_TEST_OVERLOAD_S")
	if text == "" {
		return 8 * time.Second
	}
	seconds, err := strconv.Atoi(text)
	Check(t, err, "whole seconds")
	return time.Duration(seconds) * time.Second
}

// StormServed is how often others must have been served meanwhile: once in each interval, and more than once.
func StormServed(t testing.TB, interval time.Duration) int {
	t.Helper()
	return max(2, int(StormTime(t)/interval))
}

// CheckStormEnd looks at how long publishers waited for what they had on its way when they stopped.
func CheckStormEnd(t testing.TB, recovered time.Duration) {
	t.Helper()
	if recovered > Patience/2 {
		t.Errorf("it was over after %s", recovered)
	}
}

// CheckStormPeak looks at the most memory that the broker had, in bytes.
func CheckStormPeak(t testing.TB, peak int) {
	t.Helper()
	if peak > (stormBudgetMiB+stormBesideMiB)<<20 {
		t.Errorf("%d MiB of memory", peak>>20)
	}
}
