/*
 * Network: the loopback interface comes up; an eth0 that the kernel gave no address (ip=) asks DHCP
 * for one, with busybox's client in the background.
 */
#include "init.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool bring_up(int socket, const char* name) {
  struct ifreq request = {0};
  strcpy(request.ifr_name, name);
  if (ioctl(socket, SIOCGIFFLAGS, &request) < 0) return false;
  if (request.ifr_flags & IFF_UP) return true;
  request.ifr_flags |= IFF_UP;
  return ioctl(socket, SIOCSIFFLAGS, &request) == 0;
}

static bool has_address(int socket, const char* name) {
  struct ifreq request = {0};
  strcpy(request.ifr_name, name);
  return ioctl(socket, SIOCGIFADDR, &request) == 0;
}

static void start_dhcp(void) {
  static char* const argv[] = {"udhcpc", "-f", "-S", "-i", "eth0", NULL};
  if (vfork() == 0) {
    int nowhere = open("/dev/null", O_RDWR);
    for (int stream = 0; stream < 3; stream++)
      dup2(nowhere, stream);
    setsid();
    become_program(argv);
  }
}

void start_network(void) {
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) return;
  bring_up(control, "lo");
  if (bring_up(control, "eth0") && !has_address(control, "eth0")) start_dhcp();
  close(control);
}
