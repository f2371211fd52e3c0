package main

import (
	"drover/config"

	"github.com/spf13/cobra"
)

func newProxyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Run without a configuration file",
		Example: `  drover proxy --from :8080 --to 127.0.0.1:9000 --to 127.0.0.1:9001
  drover proxy --from :8080 --zookeeper 127.0.0.1:2181 --path /services/app`,
		Args: cobra.NoArgs,
	}
	var o config.QuickOptions
	flags := cmd.Flags()
	flags.StringVar(&o.From, "from", ":8080", "`address` to listen on")
	flags.StringSliceVar(&o.To, "to", nil, "server `address`; repeat it, or separate by commas")
	flags.StringSliceVar(&o.ZooKeeper, "zookeeper", nil, "ZooKeeper `address`; repeat it, or separate by commas")
	flags.StringVar(&o.Path, "path", "", "`path` in ZooKeeper where the servers register")
	flags.StringVar(&o.Format, "format", "auto", "how entries are written: auto, curator, dubbo, serverset, nerve, plain")
	flags.StringVar(&o.Policy, "policy", "round_robin", "how a server is picked")
	// What is missing or too much is wrong usage, not a fault of the configuration.
	cmd.MarkFlagsOneRequired("to", "path")
	cmd.MarkFlagsMutuallyExclusive("to", "path")
	cmd.MarkFlagsMutuallyExclusive("to", "zookeeper")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Quick(o)
		if err != nil {
			return &exitError{exitFailed, err}
		}
		s, err := newService(cfg)
		if err != nil {
			return &exitError{exitFailed, err}
		}
		return s.serve(cmd.Context(), cfg)
	}
	return cmd
}
