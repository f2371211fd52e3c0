package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// readyTimeout bounds the question.
const readyTimeout = 3 * time.Second

func newReadyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Ask a running drover whether it is ready; for container health checks",
		Args:  cobra.NoArgs,
	}
	address := cmd.Flags().String("admin", "127.0.0.1:9900", "the running drover's admin `address`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := &http.Client{Timeout: readyTimeout}
		resp, err := client.Get("http://" + *address + "/readyz")
		if err != nil {
			return &exitError{exitFailed, fmt.Errorf("cannot ask whether drover is ready: %w", err)}
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end below.
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if err != nil {
			return &exitError{exitFailed, err}
		}
		if resp.StatusCode != http.StatusOK {
			return &exitError{exitFailed, fmt.Errorf("%s", text)}
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	return cmd
}
