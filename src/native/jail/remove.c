/*
 * Takes a jail away: its folder and its cgroups. The folder was its program's to write in: nothing
 * is followed out of it, neither a symbolic link nor a mount.
 */
#define _GNU_SOURCE
#include "jail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A program may nest folders as deep as it likes; descriptors are ours. */
#define DEPTH_MAX 200
#define KILL_PATIENCE_MS 5000
#define CGROUP_PATIENCE_MS 2000

static bool say(const char* operation, const char* object) {
  fprintf(stderr, "estalo jail: %s %s: %s\n", operation, object, strerror(errno));
  return false;
}

static int open_folder(int parent, const char* name) {
  struct open_how how = {
      .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
  };
  return (int)syscall(SYS_openat2, parent, name, &how, sizeof how);
}

static bool empty_folder(int folder, int depth) {
  DIR* entries = fdopendir(folder);
  if (entries == NULL) {
    close(folder);
    return false;
  }
  bool is_empty = true;
  struct dirent* entry;
  while ((entry = readdir(entries)) != NULL) {
    const char* name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
    if (unlinkat(dirfd(entries), name, 0) == 0) continue;
    if (errno != EISDIR && errno != EPERM) {
      is_empty = say("remove", name);
      continue;
    }
    int below = depth < DEPTH_MAX ? open_folder(dirfd(entries), name) : -1;
    if (below < 0) {
      is_empty = say("open", name);
      continue;
    }
    is_empty = empty_folder(below, depth + 1) && is_empty;
    if (unlinkat(dirfd(entries), name, AT_REMOVEDIR) < 0) is_empty = say("remove", name);
  }
  closedir(entries);
  return is_empty;
}

static bool remove_folder(const char* path) {
  char parent_path[4096];
  const char* slash = strrchr(path, '/');
  if (slash == NULL || slash == path || (size_t)(slash - path) >= sizeof parent_path) return false;
  snprintf(parent_path, sizeof parent_path, "%.*s", (int)(slash - path), path);
  int parent = jail_open_folder(parent_path);
  if (parent < 0) return errno == ENOENT || say("open", parent_path);
  int folder = open_folder(parent, slash + 1);
  bool is_gone = true;
  if (folder >= 0) {
    is_gone = empty_folder(folder, 0);
    if (unlinkat(parent, slash + 1, AT_REMOVEDIR) < 0) is_gone = say("remove", path);
  } else if (errno != ENOENT)
    is_gone = say("open", path);
  close(parent);
  /* The folder of this program's jails goes with the last of them. */
  if (is_gone) rmdir(parent_path);
  return is_gone;
}

/* A process leaves its cgroup a moment after its end was told. */
static bool remove_cgroup(const char* path) {
  for (int waited_ms = 0;; waited_ms += 10) {
    if (rmdir(path) == 0 || errno == ENOENT) return true;
    if (errno != EBUSY || waited_ms >= CGROUP_PATIENCE_MS) return say("remove cgroup", path);
    usleep(10 * 1000);
  }
}

/* Whether another one of the plan is below it: other jails may be as well. */
static bool is_above(const struct jail_plan* plan, const char* path) {
  size_t length = strlen(path);
  for (int i = 0; i < plan->cgroup_count; i++)
    if (strncmp(plan->cgroups[i], path, length) == 0 && plan->cgroups[i][length] == '/')
      return true;
  return false;
}

bool jail_remove_folder(const struct jail_plan* plan) {
  return plan->keeps_folder || remove_folder(plan->folder);
}

bool jail_remove_cgroups(const struct jail_plan* plan) {
  bool is_gone = true;
  for (int i = plan->cgroup_count; i > 0; i--) {
    const char* path = plan->cgroups[i - 1];
    if (is_above(plan, path))
      rmdir(path);
    else
      is_gone = remove_cgroup(path) && is_gone;
  }
  return is_gone;
}

static bool has_root(int proc, const char* name, const struct stat* root) {
  char path[64];
  struct stat found;
  if (name[0] < '0' || name[0] > '9' || strlen(name) > 16) return false;
  snprintf(path, sizeof path, "%s/root", name);
  return fstatat(proc, path, &found, 0) == 0 && found.st_dev == root->st_dev &&
         found.st_ino == root->st_ino;
}

/* A descriptor of the process, if it has this root; -1 otherwise. Looked at again: it may be
 * another by now. */
static int open_inmate(int proc, const char* name, const struct stat* root) {
  if (!has_root(proc, name, root)) return -1;
  int process = (int)syscall(SYS_pidfd_open, atoi(name), 0);
  if (process >= 0 && has_root(proc, name, root)) return process;
  if (process >= 0) close(process);
  return -1;
}

bool jail_is_in_use(int root, bool kills) {
  struct stat wanted;
  DIR* proc = opendir("/proc");
  if (proc == NULL || fstat(root, &wanted) < 0) jail_fail("look through", "/proc");
  bool is_in_use = false;
  struct dirent* entry;
  while ((entry = readdir(proc)) != NULL) {
    int process = open_inmate(dirfd(proc), entry->d_name, &wanted);
    if (process < 0) continue;
    struct pollfd end = {.fd = process, .events = POLLIN};
    bool has_ended = kills && syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) == 0 &&
                     poll(&end, 1, KILL_PATIENCE_MS) == 1;
    is_in_use = is_in_use || !has_ended;
    close(process);
  }
  closedir(proc);
  return is_in_use;
}

bool jail_remove(const struct jail_plan* plan, int root) {
  if (root >= 0 && jail_is_in_use(root, plan->kills)) {
    fprintf(stderr, "estalo jail: %s is in use%s\n", plan->folder,
            plan->kills ? "" : "; --force ends what runs in it");
    return false;
  }
  bool is_gone = jail_remove_folder(plan);
  return jail_remove_cgroups(plan) && is_gone;
}
