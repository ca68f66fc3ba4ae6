/*
 * The guest's file systems. The kernel has mounted the root and, on it, /dev.
 *
 * A root mounted read-only becomes the lower layer of an overlay whose upper layer is a tmpfs, so
 * that every program finds it writable and nothing is kept; one mounted read-write is left as it
 * is.
 */
#include "init.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_MOUNTS = 64, PATH_BYTES = 256 };

static const struct {
  const char *type, *target, *data;
  unsigned long flags;
} file_systems[] = {
    {"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot",
     MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"devpts", "/dev/pts", "mode=620,gid=5,ptmxmode=666", MS_NOSUID | MS_NOEXEC},
    {"tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV},
    {"tmpfs", "/run", "mode=755", MS_NOSUID | MS_NODEV},
    {"tmpfs", "/tmp", "mode=1777", MS_NOSUID | MS_NODEV},
};

/* The tmpfs sits on /mnt of the read-only root; pivot_root(2) then puts the old root out of sight.
 */
static void make_root_writable(void) {
  struct statvfs root;
  if (statvfs("/", &root) < 0 || !(root.f_flag & ST_RDONLY)) return;
  if (mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755") < 0) return;
  if (mkdir("/mnt/upper", 0755) < 0 || mkdir("/mnt/work", 0755) < 0 || mkdir("/mnt/root", 0755) < 0)
    return;
  const char* layers = "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work";
  if (mount("overlay", "/mnt/root", "overlay", 0, layers) < 0) return;
  if (mount("/dev", "/mnt/root/dev", NULL, MS_MOVE, NULL) < 0) return;
  if (chdir("/mnt/root") < 0 || syscall(SYS_pivot_root, ".", ".") < 0) return;
  umount2(".", MNT_DETACH);
  if (chdir("/") < 0) return;
}

void mount_file_systems(void) {
  umask(0);
  make_root_writable();
  mkdir("/dev/pts", 0755);
  mkdir("/dev/shm", 01777);
  for (size_t i = 0; i < sizeof file_systems / sizeof *file_systems; i++) {
    mount(file_systems[i].type, file_systems[i].target, file_systems[i].type, file_systems[i].flags,
          file_systems[i].data);
  }
  umask(022);
}

/* Last mounted first; what is still in use, like the root, becomes read-only instead. */
void unmount_file_systems(void) {
  static char targets[MAX_MOUNTS][PATH_BYTES];
  size_t count = 0;

  sync();
  FILE* mounts = setmntent("/proc/mounts", "r");
  if (!mounts) return;
  for (struct mntent* entry; (entry = getmntent(mounts)) && count < MAX_MOUNTS;) {
    bool on_a_device = entry->mnt_fsname[0] == '/' && !hasmntopt(entry, "ro");
    if (on_a_device && strlen(entry->mnt_dir) < PATH_BYTES)
      strcpy(targets[count++], entry->mnt_dir);
  }
  endmntent(mounts);
  while (count > 0) {
    const char* target = targets[--count];
    if (umount2(target, 0) < 0) mount(NULL, target, NULL, MS_REMOUNT | MS_RDONLY, NULL);
  }
}
