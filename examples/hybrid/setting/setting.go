// Package setting reads what the programs can be told.
package setting

import "os"

// Of is the value of the environment variable, or what holds without it.
func Of(name, otherwise string) string {
	if value, ok := os.LookupEnv(name); ok {
		return value
	}
	return otherwise
}
