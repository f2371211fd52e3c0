package main

import (
	"fmt"

	"drover/config"

	"github.com/spf13/cobra"
)

func newCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file, with the same rules as a start and a reload",
		Example: `  drover check -c drover.yaml
  drover check -c drover.yaml && systemctl reload drover`,
		Args: cobra.NoArgs,
	}
	config.RegisterFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		warn := func(w *config.Error) { cmd.PrintErrln("warning:", w) }
		cfg, err := config.Load(config.Options{Flags: cmd.Flags(), Warn: warn})
		if err != nil {
			return &exitError{exitFailed, err}
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %s, %s, %s\n",
			count(len(cfg.Listeners), "listener"), count(len(cfg.Upstreams), "upstream"), count(len(cfg.Routes), "route"))
		return err
	}
	return cmd
}

// count says how many there are of something.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
