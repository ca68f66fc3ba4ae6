// vsock-echo serve PORT [WAIT_MS]: gives back what each connection to PORT sends, until its end; any
// number at once, and each waits only for its own reader. With WAIT_MS there is a process for each,
// which first waits that long before it reads.
//
// vsock-echo connect PORT STREAMS BYTES: opens STREAMS connections to the host's PORT, sends BYTES
// of its own noise over each, half closes it, and compares what comes back, all of it at once.
// Prints one PASS or FAIL line.

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// linux/vm_sockets.h, which musl does not come with.
struct sockaddr_vm {
  uint16_t family, reserved;
  uint32_t port, cid;
  uint8_t flags, zero[3];
};
#define VMADDR_CID_ANY 0xffffffffu
#define VMADDR_CID_HOST 2u

#define STREAMS_MAX 512
// As many as Linux lets wait to be accepted: a host may connect faster than a guest accepts.
#define BACKLOG 4096
#define CHUNK_BYTES 16384

static int fail(const char *what) {
  printf("FAIL %s: %s\n", what, strerror(errno));
  return 1;
}

static struct sockaddr_vm address(unsigned cid, unsigned port) {
  return (struct sockaddr_vm){.family = AF_VSOCK, .port = port, .cid = cid};
}

static void echo(int connection, int wait_ms) {
  static uint8_t bytes[CHUNK_BYTES];
  ssize_t count;
  poll(NULL, 0, wait_ms);
  while ((count = read(connection, bytes, sizeof bytes)) > 0) {
    for (ssize_t done = 0, part; done < count; done += part) {
      part = write(connection, bytes + done, (size_t)(count - done));
      if (part < 0) _exit(1);
    }
  }
  _exit(0);
}

// A connection of the server's, and what it has read and not given back yet.
struct guest {
  int fd;
  size_t start, end;
  uint8_t bytes[CHUNK_BYTES];
};

static void watch(int events, struct guest *guest, int operation, uint32_t wanted) {
  struct epoll_event event = {.events = wanted, .data.ptr = guest};
  epoll_ctl(events, operation, guest->fd, &event);
}

// Reads once what there is, or gives back what was read; false when the connection is over.
static int turn(int events, struct guest *guest) {
  int had = guest->start < guest->end;
  if (!had) {
    ssize_t count = recv(guest->fd, guest->bytes, CHUNK_BYTES, MSG_DONTWAIT);
    if (count <= 0) return count < 0 && (errno == EAGAIN || errno == EINTR);
    guest->start = 0;
    guest->end = (size_t)count;
  }
  ssize_t count = send(guest->fd, guest->bytes + guest->start, guest->end - guest->start,
                       MSG_NOSIGNAL | MSG_DONTWAIT);
  if (count < 0 && errno != EAGAIN && errno != EINTR) return 0;
  if (count > 0) guest->start += (size_t)count;
  int has = guest->start < guest->end;
  if (has != had) watch(events, guest, EPOLL_CTL_MOD, has ? EPOLLOUT : EPOLLIN);
  return 1;
}

static void serve_all(int listener) {
  struct epoll_event ready[64];
  int events = epoll_create1(EPOLL_CLOEXEC);
  struct guest front = {.fd = listener};
  watch(events, &front, EPOLL_CTL_ADD, EPOLLIN);
  for (;;) {
    int count = epoll_wait(events, ready, 64, -1);
    for (int i = 0; i < count; i++) {
      struct guest *guest = ready[i].data.ptr;
      if (guest == &front) {
        int fd = accept(listener, NULL, NULL);
        guest = fd < 0 ? NULL : calloc(1, sizeof *guest);
        if (guest == NULL) continue;
        guest->fd = fd;
        watch(events, guest, EPOLL_CTL_ADD, EPOLLIN);
      } else if (!turn(events, guest)) {
        close(guest->fd);
        free(guest);
      }
    }
  }
}

static int serve(unsigned port, int wait_ms) {
  int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_vm any = address(VMADDR_CID_ANY, port);
  signal(SIGCHLD, SIG_IGN);
  if (bind(listener, (struct sockaddr *)&any, sizeof any) < 0) return fail("bind");
  if (listen(listener, BACKLOG) < 0) return fail("listen");
  printf("listening\n");
  fflush(stdout);
  if (wait_ms == 0) serve_all(listener);
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) continue;
    if (fork() == 0) echo(connection, wait_ms);
    close(connection);
  }
}

// One stream: xorshift noise out, and the same noise expected back.
struct stream {
  uint32_t out, in;
  long left, due;
};

static uint8_t noise(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return (uint8_t)*state;
}

// Bytes that were made but that the socket did not take yet.
static struct {
  size_t start, end;
  uint8_t bytes[CHUNK_BYTES];
} unsent[STREAMS_MAX];
static struct stream streams[STREAMS_MAX];
static struct pollfd polled[STREAMS_MAX];

static void feed(int i) {
  struct stream *stream = &streams[i];
  if (unsent[i].start == unsent[i].end) {
    unsent[i].start = unsent[i].end = 0;
    while (stream->left > 0 && unsent[i].end < CHUNK_BYTES) {
      unsent[i].bytes[unsent[i].end++] = noise(&stream->out);
      stream->left--;
    }
  }
  ssize_t count = send(polled[i].fd, unsent[i].bytes + unsent[i].start,
                       unsent[i].end - unsent[i].start, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (count > 0) unsent[i].start += (size_t)count;
  if (stream->left > 0 || unsent[i].start < unsent[i].end) return;
  polled[i].events = POLLIN;
  shutdown(polled[i].fd, SHUT_WR);
}

// False when the stream has ended; `due` says whether that was right.
static int take(int i) {
  uint8_t bytes[CHUNK_BYTES];
  ssize_t count = recv(polled[i].fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
  for (ssize_t at = 0; at < count; at++) {
    if (bytes[at] != noise(&streams[i].in)) return streams[i].due = -1, 0;
  }
  if (count > 0) streams[i].due -= count;
  return count > 0;
}

static int run(unsigned port, int count, long bytes) {
  struct sockaddr_vm host = address(VMADDR_CID_HOST, port);
  int open = count, right = 0;
  for (int i = 0; i < count; i++) {
    polled[i] = (struct pollfd){.fd = socket(AF_VSOCK, SOCK_STREAM, 0), .events = POLLIN | POLLOUT};
    if (connect(polled[i].fd, (struct sockaddr *)&host, sizeof host) < 0) return fail("connect");
    streams[i] = (struct stream){(uint32_t)i + 1, (uint32_t)i + 1, bytes, bytes};
  }
  while (open > 0) {
    if (poll(polled, (nfds_t)count, -1) < 0) continue;
    for (int i = 0; i < count; i++) {
      if (polled[i].revents & POLLOUT) feed(i);
      if (!(polled[i].revents & (POLLIN | POLLHUP | POLLERR)) || take(i)) continue;
      right += streams[i].due == 0;
      close(polled[i].fd);
      polled[i].fd = -1;
      open--;
    }
  }
  printf("%s %d of %d streams came back whole\n", right == count ? "PASS" : "FAIL", right, count);
  return right != count;
}

int main(int argc, char **argv) {
  if (argc >= 3 && strcmp(argv[1], "serve") == 0)
    return serve((unsigned)atoi(argv[2]), argc > 3 ? atoi(argv[3]) : 0);
  if (argc == 5 && strcmp(argv[1], "connect") == 0 && atoi(argv[3]) <= STREAMS_MAX)
    return run((unsigned)atoi(argv[2]), atoi(argv[3]), atol(argv[4]));
  fprintf(stderr, "vsock-echo serve PORT [WAIT_MS] | connect PORT STREAMS BYTES\n");
  return 2;
}
