/*
 * The agent's life: it listens on a vsock port and has a process for each connection, which serves
 * one request.
 *
 *   estalo-agent                   listens
 *   estalo-agent --connection FD   serves what has come in as FD, a stream socket
 */
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

enum { BACKLOG = 128, LINGER_S = 10, OUT_OF_PROCESSES_US = 100000 };

/* struct sockaddr_vm of linux/vm_sockets.h, which musl does not come with. */
struct vsock_address {
  uint16_t family, reserved;
  uint32_t port, cid;
  uint8_t flags, zero[3];
};
static const uint32_t ANY_CID = 0xffffffff, HOST_CID = 2;

static void serve(int connection) {
  static struct frame request;
  if (!receive_frame(connection, &request)) {
    send_failed(connection, EPROTO, "frame");
    return;
  }
  switch (request.type) {
  case EXEC:
    serve_exec(connection, &request);
    break;
  case HEALTH:
    serve_health(connection);
    break;
  case SET_TIME:
    serve_set_time(connection, &request);
    break;
  case READ:
    serve_read(connection, &request);
    break;
  case WRITE:
    serve_write(connection, &request);
    break;
  case LIST:
    serve_list(connection, &request);
    break;
  case STAT:
    serve_stat(connection, &request);
    break;
  case REMOVE:
    serve_remove(connection, &request);
    break;
  default:
    send_failed(connection, ENOSYS, "request");
  }
}

/* Closing while there is something unread would reset the connection, and with it what was said. */
static void hang_up(int connection) {
  uint8_t nothing[4096];
  struct timeval patience = {.tv_sec = LINGER_S};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  shutdown(connection, SHUT_WR);
  while (recv(connection, nothing, sizeof nothing, 0) > 0)
    continue;
}

_Noreturn static void serve_and_end(int connection) {
  signal(SIGCHLD, SIG_DFL);
  /* A program that does not read its input is no reason to end. */
  signal(SIGPIPE, SIG_IGN);
  serve(connection);
  flush_frames(connection);
  hang_up(connection);
  _exit(0);
}

_Noreturn static void give_up(const char* what) {
  fprintf(stderr, "estalo-agent: %s: %s\n", what, strerror(errno));
  exit(1);
}

_Noreturn static void listen_and_serve(void) {
  int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct vsock_address address = {.family = AF_VSOCK, .port = AGENT_PORT, .cid = ANY_CID};
  if (listener < 0) give_up("socket");
  if (bind(listener, (struct sockaddr*)&address, sizeof address) < 0) give_up("bind");
  if (listen(listener, BACKLOG) < 0) give_up("listen");
  /* Nobody waits for the processes of the connections. */
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    socklen_t length = sizeof address;
    int connection = accept4(listener, (struct sockaddr*)&address, &length, SOCK_CLOEXEC);
    if (connection < 0) continue;
    /* Port numbers are no secret: a program of the guest's that comes this way gets nothing. */
    pid_t server = address.cid == HOST_CID ? fork() : 1;
    if (server == 0) {
      close(listener);
      serve_and_end(connection);
    }
    close(connection);
    if (server < 0) usleep(OUT_OF_PROCESSES_US);
  }
}

int main(int argc, char** argv) {
  umask(022);
  free_signals();
  if (argc == 3 && strcmp(argv[1], "--connection") == 0) serve_and_end(atoi(argv[2]));
  if (argc == 1) listen_and_serve();
  fprintf(stderr, "usage: estalo-agent [--connection FD]\n");
  return 2;
}
