/*
 * The jail's file system. Its root is an ordinary folder of the host, bound on itself with whatever
 * is mounted below it; the program and its libraries are bound into it, read-only. Everything below
 * the folder is reached through descriptors and without symbolic links: whoever may write there
 * cannot lead us elsewhere.
 */
#define _GNU_SOURCE
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A longer part of a path is cut, and then not found. */
#define NAME_BYTES 256

int jail_open_below(int folder, const char* path, int flags) {
  struct open_how how = {
      .flags = (unsigned int)flags | O_CLOEXEC,
      .mode = (flags & O_CREAT) ? 0644 : 0,
      .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
}

int jail_open_folder(const char* path) {
  struct open_how how = {
      .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
      .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

/* The folder that `path` lies in, opened, its missing folders made; `*name` is the path's last
 * part. */
static int open_parent(int root, const char* path, const char** name) {
  char part[NAME_BYTES];
  int folder = jail_open_below(root, "/", O_RDONLY | O_DIRECTORY);
  if (folder < 0) jail_fail("open in the jail", "/");
  *name = path + 1;
  for (const char* end = strchr(*name, '/'); end != NULL; end = strchr(*name, '/')) {
    snprintf(part, sizeof part, "%.*s", (int)(end - *name), *name);
    if (mkdirat(folder, part, 0755) < 0 && errno != EEXIST) jail_fail("mkdir in the jail", path);
    int below = jail_open_below(folder, part, O_RDONLY | O_DIRECTORY);
    if (below < 0) jail_fail("open in the jail", path);
    close(folder);
    folder = below;
    *name = end + 1;
  }
  return folder;
}

/* Makes what something can be mounted on, and opens it. */
static int open_mount_point(int root, const char* path, bool is_folder) {
  const char* name;
  int parent = open_parent(root, path, &name);
  if (is_folder) {
    if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST) jail_fail("mkdir in the jail", path);
  } else {
    int made = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
    if (made < 0 && errno != EEXIST) jail_fail("create in the jail", path);
    if (made >= 0) close(made);
  }
  close(parent);
  struct stat found;
  int point = jail_open_below(root, path, O_PATH | O_NOFOLLOW);
  if (point < 0 || fstat(point, &found) < 0) jail_fail("open in the jail", path);
  if (S_ISLNK(found.st_mode))
    errno = ELOOP;
  else if (is_folder != S_ISDIR(found.st_mode))
    errno = is_folder ? ENOTDIR : EISDIR;
  else
    return point;
  jail_fail("open in the jail", path);
}

static void bind_into(int root, const struct jail_bind* bind) {
  struct stat source;
  int tree = open_tree(AT_FDCWD, bind->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0 || fstat(tree, &source) < 0) jail_fail("open_tree", bind->source);
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID};
  if (!bind->is_device) attributes.attr_set |= MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV;
  if (mount_setattr(tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0)
    jail_fail("mount_setattr", bind->source);
  int point = open_mount_point(root, bind->target, S_ISDIR(source.st_mode));
  if (move_mount(tree, "", point, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
    jail_fail("mount in the jail", bind->target);
  close(point);
  close(tree);
}

/* The folders that the program writes in are its own. */
static void own_folder(int root, const char* path, const struct jail_plan* plan) {
  const char* name;
  if (strcmp(path, "/") != 0) {
    int parent = open_parent(root, path, &name);
    if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST) jail_fail("mkdir in the jail", path);
    close(parent);
  }
  int folder = jail_open_below(root, path, O_RDONLY | O_DIRECTORY);
  if (folder < 0) jail_fail("open in the jail", path);
  if (fchown(folder, plan->uid, plan->gid) < 0) jail_fail("chown in the jail", path);
  if (fchmod(folder, 0700) < 0) jail_fail("chmod in the jail", path);
  close(folder);
}

static void make_device(int root, const struct jail_device* device, const struct jail_plan* plan) {
  struct stat found;
  const char* name;
  dev_t number = makedev(device->major, device->minor);
  int parent = open_parent(root, device->path, &name);
  if (mknodat(parent, name, S_IFCHR | 0600, number) < 0) {
    int error = errno;
    bool is_same = error == EEXIST && fstatat(parent, name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
                   S_ISCHR(found.st_mode) && found.st_rdev == number;
    if (!is_same) {
      close(parent);
      errno = error;
      if (device->is_needed) jail_fail("mknod in the jail", device->path);
      fprintf(stderr, "estalo jail: without %s: mknod: %s\n", device->path, strerror(error));
      return;
    }
  }
  if (fchownat(parent, name, plan->uid, plan->gid, AT_SYMLINK_NOFOLLOW) < 0)
    jail_fail("chown in the jail", device->path);
  close(parent);
}

/* The root again, now as the new mount namespace has it; it must be the same folder. */
static int open_own_root(const struct jail_plan* plan, const struct jail_handles* handles) {
  struct stat before;
  struct stat now;
  int folder = jail_open_folder(plan->folder);
  int root = folder < 0 ? -1 : jail_open_below(folder, "root", O_RDONLY | O_DIRECTORY);
  if (root < 0 || fstat(root, &now) < 0 || fstat(handles->root, &before) < 0)
    jail_fail("open the root of", plan->folder);
  close(folder);
  errno = ESTALE;
  if (now.st_dev != before.st_dev || now.st_ino != before.st_ino)
    jail_fail("somebody changed", plan->folder);
  return root;
}

void jail_enter_root(const struct jail_plan* plan, struct jail_handles* handles) {
  static const char* const folders[] = {"/", "/dev", "/dev/net", "/run"};
  /* Clients bind files into the jail while it lives: what the host mounts there must show up. */
  if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0) jail_fail("make slave", "/");
  int root = open_own_root(plan, handles);
  int tree =
      open_tree(root, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) jail_fail("open_tree", plan->folder);
  if (move_mount(tree, "", root, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
    jail_fail("bind the jail's root in", plan->folder);
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
    own_folder(tree, folders[i], plan);
  for (int i = 0; i < plan->bind_count; i++)
    bind_into(tree, &plan->binds[i]);
  for (int i = 0; i < plan->device_count; i++)
    make_device(tree, &plan->devices[i], plan);
  if (fchdir(tree) < 0) jail_fail("chdir", plan->folder);
  /* The old root is stacked on the new one, and goes: no folder is needed for it. */
  if (syscall(SYS_pivot_root, ".", ".") < 0) jail_fail("pivot_root", plan->folder);
  if (umount2(".", MNT_DETACH) < 0) jail_fail("umount the host's root from", plan->folder);
  if (chdir("/") < 0) jail_fail("chdir", "/");
  close(root);
  close(tree);
}
