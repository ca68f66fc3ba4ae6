/*
 * Landlock, where the kernel has it: the files of the jail and no devices made, nothing executed
 * but the program, no TCP, no abstract Unix sockets and no signals to processes outside. Version 1
 * is in Linux 5.13; what a later one added is left out on an earlier kernel.
 */
#define _GNU_SOURCE
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h of Linux 6.12, which a system's headers may not have yet. */
#define FS_REFER (1ull << 13)
#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_BIND_TCP (1ull << 0)
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_UNIX_SOCKET (1ull << 0)
#define SCOPE_SIGNAL (1ull << 1)

#define FS_MAKE_DEVICES (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)
/* All of version 1. */
#define FS_VERSION_1 ((1ull << 13) - 1)

struct ruleset {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;
  uint64_t scoped;
};

static struct ruleset rules_of(long version) {
  struct ruleset rules = {.handled_access_fs = FS_VERSION_1};
  if (version >= 2) rules.handled_access_fs |= FS_REFER;
  if (version >= 3) rules.handled_access_fs |= FS_TRUNCATE;
  if (version >= 4) rules.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP;
  if (version >= 5) rules.handled_access_fs |= FS_IOCTL_DEV;
  if (version >= 6) rules.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
  return rules;
}

static void allow(int ruleset, const char* path, uint64_t access) {
  int file = open(path, O_PATH | O_CLOEXEC);
  if (file < 0) jail_fail("open", path);
  struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = file};
  if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
    jail_fail("landlock_add_rule", path);
  close(file);
}

void jail_restrict_files(const struct jail_plan* plan) {
  long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) {
    fprintf(stderr, "estalo jail: without Landlock: %s\n", strerror(errno));
    return;
  }
  struct ruleset rules = rules_of(version);
  int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
  if (ruleset < 0) jail_fail("landlock_create_ruleset", "jail");
  uint64_t all = rules.handled_access_fs;
  allow(ruleset, "/", all & ~(uint64_t)(LANDLOCK_ACCESS_FS_EXECUTE | FS_MAKE_DEVICES));
  for (int i = 0; i < plan->bind_count; i++) {
    if (!plan->binds[i].is_executable) continue;
    allow(ruleset, plan->binds[i].target,
          LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE);
  }
  /* The kernel asks for it before anybody without capabilities restricts itself. */
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) jail_fail("prctl", "no_new_privs");
  if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
    jail_fail("landlock_restrict_self", "jail");
  close(ruleset);
}
