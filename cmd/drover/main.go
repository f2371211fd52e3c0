// Command drover is a reverse-proxy load balancer that finds its servers in
// ZooKeeper, in files, in DNS or in its configuration.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes. Supervisors may rely on them.
const (
	exitOK     = 0 // ended as asked
	exitFailed = 1 // could not start, or a check found faults: starting again will not help
	exitForced = 2 // a second signal, or the drain time-out, cut running requests
	exitUsage  = 64
)

// exitError carries an exit code out of a command.
type exitError struct {
	code int
	err  error // nil: nothing to print
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() { os.Exit(execute(os.Args[1:])) }

// execute runs one command line and gives its exit code.
func execute(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.Execute()
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(os.Stderr, exit.err)
		}
		return exit.code
	default:
		fmt.Fprintf(os.Stderr, "%v\nTry 'drover --help'.\n", err)
		return exitUsage
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "drover",
		Short: "A load balancer that finds its servers in ZooKeeper",
		Long: `drover stands in front of HTTP services, finds their servers in ZooKeeper (or in
files, DNS or its configuration), spreads requests over them, and stops using the
ones that fail.

Signals: HUP reloads, TERM, INT and QUIT drain and exit (a second one exits at once),
USR1 reopens log files.
Exit codes: 0 ended as asked, 1 could not start or a check found faults, 2 running
requests were cut, 64 wrong usage.`,
		Version:       fullVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(newRunCommand(), newProxyCommand(), newCheckCommand(), newDemoCommand(), newReadyCommand(), newVersionCommand())
	return root
}
