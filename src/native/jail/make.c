/*
 * Makes what a jail is made of on the host: its folder with the record of what goes with it, and
 * its control groups. Nobody else makes anything of a jail, so that whoever asked for one may be
 * killed at any time: what there is then has somebody who takes it away.
 */
#define _GNU_SOURCE
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_FILE "estalo-jail.json"
/* The last jail takes the folder or group above away, perhaps as often as this meanwhile. */
#define FOLDER_TRIES 100

/* 0, or -1 and errno. No symbolic link is followed. */
static int make_in_parent(const char* folder) {
  char parent_path[PATH_MAX];
  const char* slash = strrchr(folder, '/');
  errno = ENAMETOOLONG;
  if (slash == NULL || (size_t)(slash - folder) >= sizeof parent_path) return -1;
  snprintf(parent_path, sizeof parent_path, "%.*s", (int)(slash - folder), folder);
  for (int tries = 0;; tries++) {
    if (mkdir(parent_path, 0755) < 0 && errno != EEXIST) return -1;
    int parent = jail_open_folder(parent_path);
    if (parent < 0 && errno == ENOENT && tries < FOLDER_TRIES) continue;
    if (parent < 0) return -1;
    int result = mkdirat(parent, slash + 1, 0755);
    int error = errno;
    close(parent);
    errno = error;
    if (result == 0 || errno != ENOENT || tries == FOLDER_TRIES) return result;
  }
}

void jail_make_folder(struct jail_plan* plan) {
  char root[PATH_MAX];
  /* A client may have put the guest's files there already. */
  plan->keeps_folder = make_in_parent(plan->folder) < 0;
  if (plan->keeps_folder && errno != EEXIST) jail_fail("mkdir", plan->folder);
  int length = snprintf(root, sizeof root, "%s/root", plan->folder);
  if (length < (int)sizeof root && (make_in_parent(root) == 0 || errno == EEXIST)) return;
  int error = length < (int)sizeof root ? errno : ENAMETOOLONG;
  if (!plan->keeps_folder) rmdir(plan->folder);
  errno = error;
  jail_fail("mkdir", root);
}

void jail_write_record(const struct jail_plan* plan, const struct jail_handles* handles) {
  if (plan->record == NULL) return;
  /* Not through a link that somebody left there. */
  int file = openat(handles->folder, RECORD_FILE,
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  size_t length = strlen(plan->record);
  if (file < 0 || write(file, plan->record, length) != (ssize_t)length || close(file) < 0)
    jail_fail("write the record of", plan->folder);
}

static void write_setting(const struct jail_setting* setting) {
  char operation[128];
  snprintf(operation, sizeof operation, "write %s to", setting->value);
  size_t length = strlen(setting->value);
  /* Without O_CREAT: a name that the controller does not have is an error. */
  int file = open(setting->file, O_WRONLY | O_CLOEXEC);
  if (file < 0 || write(file, setting->value, length) != (ssize_t)length)
    jail_fail(operation, setting->file);
  close(file);
}

/* 0, or -1 and errno: of the first that could not be made. */
static int make_groups(const struct jail_plan* plan, int* failed) {
  for (*failed = 0; *failed < plan->cgroup_count; ++*failed) {
    if (mkdir(plan->cgroups[*failed], 0755) < 0 && errno != EEXIST) return -1;
  }
  return 0;
}

void jail_make_cgroups(const struct jail_plan* plan) {
  int failed;
  for (int tries = 0; make_groups(plan, &failed) < 0; tries++) {
    if (errno != ENOENT || tries == FOLDER_TRIES) jail_fail("create cgroup", plan->cgroups[failed]);
  }
  for (int i = 0; i < plan->setting_count; i++)
    write_setting(&plan->settings[i]);
}
