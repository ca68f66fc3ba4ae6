/*
 * The host's end of the socket bench: a program that connects to the guest.
 *
 *     vsock-peer send|receive|connect unix PATH   by Firecracker's protocol (docs/vsock.md)
 *     vsock-peer send|receive|connect cid N       by the host kernel's vhost-vsock
 *
 * `send` and `receive` connect once and move bytes in pieces of 64 KiB; `connect` connects, closes,
 * and so on. All try until the guest is there, and go on until they are killed.
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT 52
#define PIECE_BYTES (64 << 10)
#define AGAIN_US 2000

static int connect_unix(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char text[32];
  int length = snprintf(text, sizeof text, "CONNECT %d\n", PORT);
  if (connect(fd, (struct sockaddr*)&address, sizeof address) == 0 &&
      write(fd, text, (size_t)length) == length) {
    /* "OK 1073741824\n", byte by byte: what follows is the stream. */
    char byte = 0;
    while (byte != '\n' && read(fd, &byte, 1) == 1) {
    }
    if (byte == '\n') return fd;
  }
  close(fd);
  return -1;
}

static int connect_cid(uint32_t cid) {
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = PORT};
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr*)&address, sizeof address) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

static int connect_once(char** where) {
  return strcmp(where[0], "unix") == 0 ? connect_unix(where[1])
                                       : connect_cid((uint32_t)atoi(where[1]));
}

static int connect_until_there(char** where) {
  for (;;) {
    int fd = connect_once(where);
    if (fd >= 0) return fd;
    usleep(AGAIN_US);
  }
}

static void move(int fd, int sends) {
  static char piece[PIECE_BYTES];
  while ((sends ? send(fd, piece, sizeof piece, MSG_NOSIGNAL) : read(fd, piece, sizeof piece)) >
         0) {
  }
}

int main(int argc, char** argv) {
  const char* what = argc == 4 ? argv[1] : "";
  int connects = strcmp(what, "connect") == 0, sends = strcmp(what, "send") == 0;
  if (!connects && !sends && strcmp(what, "receive") != 0) {
    fprintf(stderr, "usage: vsock-peer send|receive|connect unix PATH | cid N\n");
    return 2;
  }
  for (;;) {
    int fd = connect_until_there(argv + 2);
    if (!connects) move(fd, sends);
    close(fd);
  }
}
