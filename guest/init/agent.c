/*
 * The agent (guest/agent), by which the host runs programs and copies files. It is a process of its
 * own: what it does cannot hold up or end init.
 */
#include "init.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* linux/vm_sockets.h, which musl does not come with. */
#define VSOCK_GET_LOCAL_CID _IO(7, 0xb9)
enum { FIRST_GUEST_CID = 3 };

/* The kernel always has the file; without a device the guest has no context id. */
static bool has_socket_device(void) {
  unsigned cid = 0;
  int vsock = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
  if (vsock < 0) return false;
  bool known = ioctl(vsock, VSOCK_GET_LOCAL_CID, &cid) == 0;
  close(vsock);
  return known && cid >= FIRST_GUEST_CID && cid != (unsigned)-1;
}

void start_agent(void) {
  static char* const argv[] = {"/sbin/estalo-agent", NULL};
  if (!has_socket_device()) return;
  if (vfork() == 0) {
    int nowhere = open("/dev/null", O_RDWR);
    for (int stream = 0; stream < 3; stream++)
      dup2(nowhere, stream);
    setsid();
    if (chdir("/root") < 0) chdir("/");
    become_program(argv);
  }
}
