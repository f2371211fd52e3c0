package metrics

// A family is the definition of one metric. All of drover's metrics stand in this
// file, so that their names, labels and help can be read in one place.
type family struct {
	name   string
	help   string
	labels []string
}

// Families that the request path counts itself.
var (
	listenerConnectionsTotal = family{"drover_listener_connections_total",
		"Connections accepted.", []string{"listener"}}
	listenerRejectedTotal = family{"drover_listener_rejected_total",
		"Requests and connections that the listener answered itself, by reason code.", []string{"listener", "reason"}}
	listenerConnections = family{"drover_listener_connections",
		"Client connections that are open.", []string{"listener"}}

	routeRequestsTotal = family{"drover_route_requests_total",
		"Requests finished, by method and status sent to the client (499: the client left first).",
		[]string{"route", "upstream", "method", "code"}}
	routeDuration = family{"drover_route_request_duration_seconds",
		"Time from the request's complete head to the end of the response.", []string{"route"}}
	routeReceivedBytes = family{"drover_route_received_bytes_total",
		"Body bytes received from clients.", []string{"route"}}
	routeSentBytes = family{"drover_route_sent_bytes_total",
		"Body bytes sent to clients.", []string{"route"}}
	routeInFlight = family{"drover_route_in_flight",
		"Requests that are running.", []string{"route"}}
	answersTotal = family{"drover_answers_total",
		"Answers that drover made or broke off itself, by reason code.", []string{"route", "reason"}}

	upstreamRetriesTotal = family{"drover_upstream_retries_total",
		"Attempts after the first one, by what the attempt before came to.", []string{"upstream", "reason"}}
	upstreamBudgetExhausted = family{"drover_upstream_retry_budget_exhausted_total",
		"Retries not made for want of budget.", []string{"upstream"}}
	upstreamQueued = family{"drover_upstream_queue_length",
		"Requests that wait for a free place.", []string{"upstream"}}
	upstreamQueueRejected = family{"drover_upstream_queue_rejected_total",
		"Requests turned away since the queue was full or the wait too long.", []string{"upstream", "reason"}}

	serverRequestsTotal = family{"drover_server_requests_total",
		"Responses that a server gave, by status class.", []string{"upstream", "server", "code"}}
	serverFailuresTotal = family{"drover_server_failures_total",
		"Attempts on a server that failed, by kind.", []string{"upstream", "server", "failure"}}
	serverDuration = family{"drover_server_header_duration_seconds",
		"Time from the pick to the server's response head.", []string{"upstream", "server"}}

	configReloadsTotal = family{"drover_config_reloads_total",
		"Attempts to load a new configuration, by result.", []string{"result"}}
	seriesDropped = family{"drover_metrics_series_dropped_total",
		"Series folded into the label value other since their metric had reached metrics.max_series.", []string{"metric"}}
)

// Gauge is a metric whose value is read when Prometheus asks.
type Gauge family

// Counter is a running count that some part keeps, read when Prometheus asks.
type Counter family

// What the parts report about themselves at each scrape.
var (
	BuildInfo = Gauge{"drover_build_info", "Always 1; the labels tell the build.", []string{"version", "goversion"}}

	ConfigLastReloadSuccessful = Gauge{"drover_config_last_reload_successful",
		"1 when the newest configuration is in force, 0 when it was refused and an older one is.", nil}
	ConfigLastReloadTime = Gauge{"drover_config_last_reload_success_timestamp_seconds",
		"When the configuration in force was loaded, in Unix seconds.", nil}

	UpstreamServers   = Gauge{"drover_upstream_servers", "Servers known.", []string{"upstream"}}
	UpstreamAvailable = Gauge{"drover_upstream_servers_available", "Servers that may be picked.", []string{"upstream"}}
	UpstreamHeld      = Gauge{"drover_upstream_servers_held",
		"Servers gone from the registry that the removal brake keeps.", []string{"upstream"}}
	UpstreamPanic = Gauge{"drover_upstream_panic",
		"1 while health is ignored since too few servers are available.", []string{"upstream"}}
	UpstreamUpdatesTotal = Counter{"drover_upstream_updates_total",
		"Changes of the member set that took effect.", []string{"upstream"}}
	UpstreamBrakesTotal = Counter{"drover_upstream_removal_brakes_total",
		"Times the removal brake held servers.", []string{"upstream"}}

	ServerUp = Gauge{"drover_server_up",
		"1 when the active checks pass, 0 when they fail, -1 when there is no verdict.", []string{"upstream", "server"}}
	ServerEjected   = Gauge{"drover_server_ejected", "1 while outlier detection keeps it out.", []string{"upstream", "server"}}
	ServerWeight    = Gauge{"drover_server_weight", "Configured weight; 0 drains.", []string{"upstream", "server"}}
	ServerInFlight  = Gauge{"drover_server_in_flight", "Requests the server is working on.", []string{"upstream", "server"}}
	ServerConns     = Gauge{"drover_server_connections", "Open connections, by state.", []string{"upstream", "server", "state"}}
	ServerDials     = Counter{"drover_server_dials_total", "Connections dialled, by result.", []string{"upstream", "server", "result"}}
	ServerStale     = Counter{"drover_server_stale_connections_total", "Pooled connections found dead.", []string{"upstream", "server"}}
	EjectionsTotal  = Counter{"drover_upstream_ejections_total", "Ejections by outlier detection, by reason.", []string{"upstream", "reason"}}
	ProbesTotal     = Counter{"drover_upstream_probes_total", "Active checks made, by result.", []string{"upstream", "result"}}
	HealthFlipTotal = Counter{"drover_upstream_health_flips_total", "Changes of an active check's verdict.", []string{"upstream"}}

	ProbePanicsTotal = Counter{"drover_upstream_probe_panics_total",
		"Active checks that panicked and count as failed; anything but 0 is a bug.", []string{"upstream"}}
	ProbeLateness = Gauge{"drover_upstream_probe_lateness_seconds",
		"How long after its time the latest active check began.", []string{"upstream"}}
	EjectionsSuppressedTotal = Counter{"drover_upstream_ejections_suppressed_total",
		"Failures that would have ejected a server but for outlier.max_ejected_percent or since it was the last one.", []string{"upstream"}}
	ReadmissionsTotal = Counter{"drover_upstream_readmissions_total",
		"Ejected servers that were let in again.", []string{"upstream"}}

	DiscoveryConnected = Gauge{"drover_discovery_connected", "1 while the upstream's source reaches its registry.", []string{"upstream"}}
	DiscoveryStale     = Gauge{"drover_discovery_stale", "1 while the members come from memory or disk.", []string{"upstream"}}
	DiscoveryLastSync  = Gauge{"drover_discovery_last_sync_timestamp_seconds",
		"When the source last read its full set, in Unix seconds.", []string{"upstream"}}
	DiscoveryRejected = Gauge{"drover_discovery_rejected_entries", "Entries that cannot be used at present.", []string{"upstream"}}

	ZooKeeperConnected   = Gauge{"drover_zookeeper_connected", "1 while the session is usable.", nil}
	ZooKeeperReconnects  = Counter{"drover_zookeeper_reconnects_total", "Connections made to an ensemble after the first.", nil}
	ZooKeeperExpiries    = Counter{"drover_zookeeper_session_expiries_total", "Sessions lost.", nil}
	ZooKeeperCorrections = Counter{"drover_zookeeper_corrections_total",
		"Changes found by the periodic re-verify that no watch had told; anything but 0 proves a lost watch.", nil}
)

// durationBuckets run from 1 ms to 60 s.
var durationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
