/**
 * The verb `estalo serve`, for parsing, help and completion.
 */
import { HELP, type VerbSpec } from "./verb-spec.js";

export const SERVE_VERB: VerbSpec = {
  name: "serve",
  summary: "Run a server that keeps many microVMs.",
  options: [
    {
      name: "state",
      value: "FOLDER",
      help: "Keep the fleet's state here. Default: $XDG_STATE_HOME/estalo, /var/lib/estalo for root.",
    },
    {
      name: "listen",
      short: "l",
      value: "PATH|HOST:PORT",
      multiple: true,
      help: "Listen on a Unix socket or on TCP. Default: the socket where the other verbs look.",
    },
    {
      name: "token-file",
      value: "FILE",
      help: "Ask clients on TCP for a token of this file (mode 0600), one a line.",
    },
    { name: "tls-cert", value: "FILE", help: "Speak TLS on TCP, with this certificate (PEM)." },
    { name: "tls-key", value: "FILE", help: "Its private key." },
    {
      name: "tls-client-ca",
      value: "FILE",
      help: "Let in only clients with a certificate of these authorities.",
    },
    {
      name: "allow-host",
      value: "NAME",
      multiple: true,
      help: "A name under which clients reach this server, beside localhost and addresses.",
    },
    {
      name: "allow-origin",
      value: "URL",
      multiple: true,
      help: "Let pages of this origin use the server from browsers.",
    },
    {
      name: "isolate",
      value: "tenant",
      bare: "microvm",
      help: "Put each microVM, or each tenant's microVMs, into a jailed process of its own.",
    },
    {
      name: "isolate-label",
      value: "NAME",
      help: "With --isolate=tenant: the label whose value is the tenant. Default tenant.",
    },
    {
      name: "isolate-ids",
      value: "FIRST-LAST",
      help: "Users and groups of those processes. Default 1900000000-1900009999; without root your own.",
    },
    {
      name: "isolate-cgroup",
      value: "FILE=VALUE",
      multiple: true,
      help: "Set a file of each such process's control group, such as memory.max=1G.",
    },
    { name: "max-body-bytes", value: "N", help: "Largest body of a request. Default 1048576." },
    { name: "max-connections", value: "N", help: "Connections at once. Default 1024." },
    {
      name: "memory-policy",
      value: "psi[,KEY=VALUE…]",
      help: "Balloons give and get memory by the host's pressure; docs/cli.md. Default: none.",
    },
    { name: "log", value: "json|plain", help: "Form of the log. Default: plain on a terminal." },
    HELP,
  ],
  details: `TCP wants a token file or client certificates. SIGTERM ends all microVMs and the server, a second one at
once; SIGHUP reads tokens and certificates again. The log goes to standard error.`,
  examples: [
    ["estalo serve", "for this user, on the default socket"],
    [
      "estalo serve --state /srv/vms --listen /run/vms.sock",
      "a state folder and a socket of its own",
    ],
    ["estalo serve --isolate=tenant", "microVMs with the same label tenant share a process"],
    [
      "estalo serve -l 0.0.0.0:8443 --token-file token --tls-cert a.crt --tls-key a.key",
      "over the network; clients set ESTALO_HOST=https://… and ESTALO_TOKEN",
    ],
  ],
};
