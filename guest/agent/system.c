/*
 * What the guest says of itself, and its clock.
 */
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>

enum { NS_PER_S = 1000000000, MS_PER_S = 1000, BYTES_PER_KIB = 1024 };

/* What a program could still get without swapping; the kernel's own estimate. */
static uint64_t available_bytes(void) {
  unsigned long long kib = 0;
  char line[128];
  FILE* file = fopen("/proc/meminfo", "re");
  if (!file) return 0;
  while (fgets(line, sizeof line, file) && sscanf(line, "MemAvailable: %llu", &kib) != 1)
    continue;
  fclose(file);
  return kib * BYTES_PER_KIB;
}

void serve_health(int connection) {
  struct sysinfo info;
  struct timespec now;
  uint8_t payload[64], *at = payload;
  if (sysinfo(&info) < 0) {
    send_failed(connection, errno, "sysinfo");
    return;
  }
  clock_gettime(CLOCK_BOOTTIME, &now);
  put_number(&at, (uint64_t)now.tv_sec * MS_PER_S + (uint64_t)now.tv_nsec / 1000000, 8);
  clock_gettime(CLOCK_REALTIME, &now);
  put_number(&at, (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec, 8);
  put_number(&at, (uint64_t)info.totalram * info.mem_unit, 8);
  put_number(&at, (uint64_t)info.freeram * info.mem_unit, 8);
  put_number(&at, available_bytes(), 8);
  for (int i = 0; i < 3; i++)
    put_number(&at, info.loads[i], 4);
  put_number(&at, info.procs, 4);
  send_frame(connection, HEALTH_IS, payload, (size_t)(at - payload));
}

void serve_set_time(int connection, const struct frame* request) {
  struct reader reader = read_payload(request);
  uint64_t ns = get_number(&reader, 8);
  struct timespec now = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
  if (reader.bad || reader.left > 0)
    send_failed(connection, EPROTO, "set time");
  else if (clock_settime(CLOCK_REALTIME, &now) < 0)
    send_failed(connection, errno, "set time");
  else
    send_done(connection);
}
