/*
 * net-stream: TCP streams between a guest and its host, each with its checksum.
 *
 *   net-stream send ADDRESS PORT BYTES [BLOCK]   sends a known stream in blocks, reads the checksum
 * back net-stream receive ADDRESS PORT              reads such a stream to its end, checks it
 *   net-stream parallel ADDRESS PORT N BYTES     N connections at once, each sends and reads its
 * bytes back
 *
 * The stream's byte i is (i * 7 + i / 256) modulo 256; the checksum is Fowler/Noll/Vo 1a in 32
 * bits. Prints one line, PASS or FAIL with figures, and ends with 0 or 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PARALLEL_MAX = 1000, BLOCK_MAX = 262144, POLL_TIMEOUT_MS = 240000 };

static uint8_t block[BLOCK_MAX];

static uint8_t byte_at(size_t index) {
  return (uint8_t)(index * 7 + index / 256);
}

static uint32_t add_checksum(uint32_t sum, const uint8_t* bytes, size_t count) {
  for (size_t i = 0; i < count; i++)
    sum = (sum ^ bytes[i]) * 16777619u;
  return sum;
}

static const uint32_t kChecksumStart = 2166136261u;

static int fail(const char* what) {
  printf("FAIL %s: %s\n", what, strerror(errno));
  return 1;
}

static struct sockaddr_in address_of(const char* host, const char* port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, host, &address.sin_addr);
  return address;
}

static int connect_to(const char* host, const char* port) {
  struct sockaddr_in address = address_of(host, port);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr*)&address, sizeof address) < 0) return -1;
  return fd;
}

static int send_stream(const char* host, const char* port, size_t bytes, size_t size) {
  int fd = connect_to(host, port);
  if (fd < 0) return fail("connect");
  uint32_t sum = kChecksumStart;
  for (size_t at = 0; at < bytes;) {
    size_t count = bytes - at < size ? bytes - at : size;
    for (size_t i = 0; i < count; i++)
      block[i] = byte_at(at + i);
    sum = add_checksum(sum, block, count);
    for (size_t done = 0; done < count;) {
      ssize_t sent = write(fd, block + done, count - done);
      if (sent < 0) return fail("write");
      done += (size_t)sent;
    }
    at += count;
  }
  shutdown(fd, SHUT_WR);
  char answer[32] = {0};
  for (size_t at = 0; at < sizeof answer - 1;) {
    ssize_t got = read(fd, answer + at, sizeof answer - 1 - at);
    if (got < 0) return fail("read");
    if (got == 0) break;
    at += (size_t)got;
  }
  bool same = strtoul(answer, NULL, 10) == sum;
  printf("%s sent %zu bytes\n", same ? "PASS" : "FAIL", bytes);
  return same ? 0 : 1;
}

static int receive_stream(const char* host, const char* port) {
  int fd = connect_to(host, port);
  if (fd < 0) return fail("connect");
  size_t at = 0, wrong = 0;
  for (;;) {
    ssize_t got = read(fd, block, sizeof block);
    if (got < 0) return fail("read");
    if (got == 0) break;
    for (ssize_t i = 0; i < got; i++)
      wrong += block[i] != byte_at(at++);
  }
  printf("%s received %zu bytes, %zu wrong\n", wrong == 0 ? "PASS" : "FAIL", at, wrong);
  return wrong == 0 ? 0 : 1;
}

struct stream {
  size_t sent, received;
  bool failed;
};

/* One turn of one connection; 1 when it has all its bytes back. */
static void serve(struct pollfd* poll, struct stream* stream, size_t bytes) {
  uint8_t part[1024];
  if (poll->revents & POLLOUT) {
    size_t count = bytes - stream->sent < sizeof part ? bytes - stream->sent : sizeof part;
    for (size_t i = 0; i < count; i++)
      part[i] = byte_at(stream->sent + i);
    ssize_t sent = write(poll->fd, part, count);
    if (sent > 0) stream->sent += (size_t)sent;
    if (sent < 0 && errno != EAGAIN) stream->failed = true;
    if (stream->sent == bytes) {
      shutdown(poll->fd, SHUT_WR);
      poll->events = POLLIN;
    }
  }
  if (poll->revents & (POLLIN | POLLHUP | POLLERR)) {
    ssize_t got = read(poll->fd, part, sizeof part);
    if (got == 0 || (got < 0 && errno != EAGAIN)) stream->failed = true;
    for (ssize_t i = 0; i < got; i++)
      if (part[i] != byte_at(stream->received++)) stream->failed = true;
  }
  if (stream->failed || stream->received == bytes) {
    close(poll->fd);
    poll->fd = -1;
  }
}

static int parallel(const char* host, const char* port, size_t count, size_t bytes) {
  static struct pollfd polls[PARALLEL_MAX];
  static struct stream streams[PARALLEL_MAX];
  struct sockaddr_in address = address_of(host, port);
  if (count > PARALLEL_MAX) count = PARALLEL_MAX;
  for (size_t i = 0; i < count; i++) {
    polls[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    polls[i].events = POLLIN | POLLOUT;
    if (polls[i].fd < 0) return fail("socket");
    int done = connect(polls[i].fd, (struct sockaddr*)&address, sizeof address);
    if (done < 0 && errno != EINPROGRESS) return fail("connect");
  }
  for (size_t left = count; left > 0;) {
    if (poll(polls, count, POLL_TIMEOUT_MS) <= 0) return fail("poll");
    left = 0;
    for (size_t i = 0; i < count; i++) {
      if (polls[i].fd >= 0 && polls[i].revents != 0) serve(&polls[i], &streams[i], bytes);
      left += polls[i].fd >= 0;
    }
  }
  size_t whole = 0;
  for (size_t i = 0; i < count; i++)
    whole += !streams[i].failed && streams[i].received == bytes;
  printf("%s %zu of %zu connections whole\n", whole == count ? "PASS" : "FAIL", whole, count);
  return whole == count ? 0 : 1;
}

int main(int argc, char** argv) {
  if (argc >= 5 && strcmp(argv[1], "send") == 0) {
    size_t size = argc > 5 ? strtoul(argv[5], NULL, 10) : BLOCK_MAX;
    return send_stream(argv[2], argv[3], strtoul(argv[4], NULL, 10),
                       size == 0 || size > BLOCK_MAX ? BLOCK_MAX : size);
  }
  if (argc == 4 && strcmp(argv[1], "receive") == 0) return receive_stream(argv[2], argv[3]);
  if (argc == 6 && strcmp(argv[1], "parallel") == 0)
    return parallel(argv[2], argv[3], strtoul(argv[4], NULL, 10), strtoul(argv[5], NULL, 10));
  fprintf(stderr, "usage: net-stream send|receive|parallel ADDRESS PORT …\n");
  return 2;
}
