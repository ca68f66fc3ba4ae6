/*
 * What the program may: a user of its own, in a user namespace that has nothing, without any
 * capability and without a way to new ones.
 */
#define _GNU_SOURCE
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux has 41 capabilities today; the kernel says EINVAL to those it does not know. */
#define CAPABILITIES_MAX 64

static bool write_below(int folder, const char* path, const char* text) {
  int file = openat(folder, path, O_WRONLY | O_CLOEXEC);
  if (file < 0) return false;
  bool is_written = write(file, text, strlen(text)) == (ssize_t)strlen(text);
  int error = errno;
  close(file);
  errno = error;
  return is_written;
}

/* Maps the user and the group to themselves, and nobody else to anybody. */
void jail_enter_user_namespace(const struct jail_plan* plan, const struct jail_handles* handles,
                               bool is_needed) {
  char text[64];
  if (unshare(CLONE_NEWUSER) < 0) {
    if (is_needed) jail_fail("unshare", "user namespace");
    fprintf(stderr, "estalo jail: without a user namespace: %s\n", strerror(errno));
    return;
  }
  /* Without it, a group that is taken away may be a right that is gained. */
  if (!write_below(handles->proc, "self/setgroups", "deny")) jail_fail("write", "setgroups");
  snprintf(text, sizeof text, "%u %u 1", plan->uid, plan->uid);
  if (!write_below(handles->proc, "self/uid_map", text)) jail_fail("write", "uid_map");
  snprintf(text, sizeof text, "%u %u 1", plan->gid, plan->gid);
  if (!write_below(handles->proc, "self/gid_map", text)) jail_fail("write", "gid_map");
  /* In a namespace of its own the program would have every capability again. */
  if (!write_below(handles->proc, "sys/user/max_user_namespaces", "0"))
    jail_fail("write", "max_user_namespaces");
}

static bool may_change_capabilities(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct own[_LINUX_CAPABILITY_U32S_3];
  if (syscall(SYS_capget, &header, own) < 0) return false;
  return (own[CAP_TO_INDEX(CAP_SETPCAP)].effective & CAP_TO_MASK(CAP_SETPCAP)) != 0;
}

static void empty_bounding_set(void) {
  for (unsigned long capability = 0; capability < CAPABILITIES_MAX; capability++) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL)
      jail_fail("drop from the bounding set", "capability");
  }
}

static void drop_capabilities(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
  memset(none, 0, sizeof none);
  /* A new user namespace gave the full set; without one, a user other than 0 has lost it already.
   */
  if (may_change_capabilities()) {
    empty_bounding_set();
    /* User 0 is a user as others are. */
    if (prctl(PR_SET_SECUREBITS, SECURE_ALL_BITS | SECURE_ALL_LOCKS, 0, 0, 0) < 0)
      jail_fail("prctl", "securebits");
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
    jail_fail("clear", "ambient capabilities");
  if (syscall(SYS_capset, &header, none) < 0) jail_fail("capset", "no capabilities");
}

void jail_drop_privileges(const struct jail_plan* plan, const struct jail_handles* handles) {
  if (!plan->is_rootless) {
    empty_bounding_set();
    if (setgroups(0, NULL) < 0) jail_fail("setgroups", "no groups");
    if (setresgid(plan->gid, plan->gid, plan->gid) < 0) jail_fail("setresgid", "group");
    /* The namespace is made as the user: what it has in it is nothing outside. */
    if (setresuid(plan->uid, plan->uid, plan->uid) < 0) jail_fail("setresuid", "user");
    /* Else its own files in /proc were root's, after the change of user. */
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    jail_enter_user_namespace(plan, handles, false);
  }
  /* The caller's session may hold keys. Without keyrings in the kernel there is nothing to leave.
   */
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
    jail_fail("keyctl", "session keyring");
  jail_restrict_files(plan);
  drop_capabilities();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) jail_fail("prctl", "no_new_privs");
}
