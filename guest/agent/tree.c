/*
 * Files and folders out of the guest, as one stream of entries: a folder's entries follow it, up to
 * LEAVE; holes of files stay holes. Besides: what a folder has, what a file is, and removing it.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 256, PERMISSIONS = 07777, BLOCK_BYTES = 512 };

/* Where a request went wrong, for the host. */
struct failure {
  int number;
  char what[NAME_BYTES_MAX + 1];
};

static bool fail(struct failure* failure, const char* what) {
  failure->number = errno;
  snprintf(failure->what, sizeof failure->what, "%s", what);
  return false;
}

static bool send_entry(int connection, const struct stat* status, const char* name,
                       const char* target) {
  uint8_t payload[ENTRY_BYTES + NAME_BYTES_MAX + PATH_BYTES_MAX + 2], *at = payload;
  put_number(&at, status->st_mode, 4);
  put_number(&at, status->st_uid, 4);
  put_number(&at, status->st_gid, 4);
  put_number(&at, (uint64_t)status->st_size, 8);
  put_number(&at, (uint64_t)status->st_blocks * BLOCK_BYTES, 8);
  put_number(&at, status->st_mtim.tv_sec < 0 ? 0 : (uint64_t)status->st_mtim.tv_sec, 8);
  put_number(&at, (uint64_t)status->st_mtim.tv_nsec, 4);
  at = (uint8_t*)stpcpy((char*)at, name) + 1;
  at = (uint8_t*)stpcpy((char*)at, target) + 1;
  return send_frame(connection, ENTRY, payload, (size_t)(at - payload));
}

/* A file's bytes up to `end`, or to its end; a file that says it is empty may not be (/proc). */
static bool send_data(int connection, int file, off_t* at, off_t end, struct failure* failure) {
  static uint8_t bytes[PAYLOAD_BYTES_MAX];
  while (end < 0 || *at < end) {
    size_t wanted =
        end >= 0 && end - *at < (off_t)sizeof bytes ? (size_t)(end - *at) : sizeof bytes;
    ssize_t count = pread(file, bytes, wanted, *at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(failure, "read");
    if (count == 0) return true;
    if (!send_frame(connection, DATA, bytes, (size_t)count)) return false;
    *at += count;
  }
  return true;
}

static bool send_hole(int connection, off_t bytes) {
  uint8_t payload[8], *at = payload;
  put_number(&at, (uint64_t)bytes, 8);
  return bytes == 0 || send_frame(connection, HOLE, payload, sizeof payload);
}

static bool send_file(int connection, int file, const struct stat* status,
                      struct failure* failure) {
  off_t at = 0, size = status->st_size;
  bool has_holes = status->st_blocks * BLOCK_BYTES < size;
  while (has_holes && at < size) {
    off_t data = lseek(file, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) break;
    if (data < 0 || data > size) return send_hole(connection, size - at);
    off_t hole = lseek(file, data, SEEK_HOLE);
    if (hole < 0) break;
    if (!send_hole(connection, data - at)) return false;
    at = data;
    if (!send_data(connection, file, &at, hole < size ? hole : size, failure)) return false;
    /* It has become shorter meanwhile. */
    if (at < hole && at < size) return true;
  }
  /* No holes to be told, or none at all: then to its end, wherever that is by now. */
  return at > 0 && at >= size ? true : send_data(connection, file, &at, -1, failure);
}

static bool send_tree(int connection, int parent, const char* path, const char* name, int flags,
                      int depth, struct failure* failure);

static bool send_folder(int connection, int folder, int flags, int depth, struct failure* failure) {
  DIR* entries = fdopendir(folder);
  bool going = true;
  if (!entries) {
    fail(failure, "folder");
    close(folder);
    return false;
  }
  for (struct dirent* entry; going && (entry = readdir(entries));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    going = send_tree(connection, dirfd(entries), entry->d_name, entry->d_name, flags & ~FOLLOW,
                      depth + 1, failure);
    /* Deleted since the folder was read. */
    if (!going && failure->number == ENOENT) going = !(failure->number = 0);
  }
  closedir(entries);
  return going && send_frame(connection, LEAVE, NULL, 0);
}

static bool send_tree(int connection, int parent, const char* path, const char* name, int flags,
                      int depth, struct failure* failure) {
  struct stat status;
  char target[PATH_BYTES_MAX + 1] = "";
  bool follows = flags & FOLLOW;
  if (fstatat(parent, path, &status, follows ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
    return fail(failure, path);
  if (S_ISLNK(status.st_mode)) {
    ssize_t length = readlinkat(parent, path, target, PATH_BYTES_MAX);
    if (length < 0) return fail(failure, path);
    target[length] = 0;
  }
  bool opens = S_ISREG(status.st_mode) || (S_ISDIR(status.st_mode) && (flags & RECURSIVE));
  if (!opens) return send_entry(connection, &status, name, target);
  if (depth >= DEPTH_MAX) {
    errno = ELOOP;
    return fail(failure, path);
  }
  int file = openat(parent, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follows ? 0 : O_NOFOLLOW));
  if (file < 0 || fstat(file, &status) < 0) {
    fail(failure, path);
    if (file >= 0) close(file);
    return false;
  }
  bool going = send_entry(connection, &status, name, "");
  if (S_ISDIR(status.st_mode)) {
    if (going) return send_folder(connection, file, flags, depth, failure);
  } else if (going && S_ISREG(status.st_mode)) {
    going = send_file(connection, file, &status, failure);
  }
  close(file);
  return going;
}

static void finish(int connection, bool went, const struct failure* failure) {
  if (went)
    send_done(connection);
  else if (failure->number)
    send_failed(connection, failure->number, failure->what);
}

/* Flags and path of a request; NULL: it is none. */
static const char* get_path(const struct frame* request, int* flags) {
  struct reader reader = read_payload(request);
  *flags = (int)get_number(&reader, 4);
  const char* path = get_text(&reader);
  return reader.bad || reader.left > 0 || !*path ? NULL : path;
}

void serve_read(int connection, const struct frame* request) {
  struct failure failure = {0};
  int flags;
  const char* path = get_path(request, &flags);
  if (!path)
    send_failed(connection, EPROTO, "read");
  else
    finish(connection, send_tree(connection, AT_FDCWD, path, "", flags, 0, &failure), &failure);
}

void serve_stat(int connection, const struct frame* request) {
  struct failure failure = {0};
  struct stat status;
  char target[PATH_BYTES_MAX + 1] = "";
  int flags;
  const char* path = get_path(request, &flags);
  if (!path) {
    send_failed(connection, EPROTO, "stat");
    return;
  }
  bool went = fstatat(AT_FDCWD, path, &status, flags & FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW) == 0 ||
              fail(&failure, path);
  if (went && S_ISLNK(status.st_mode)) {
    ssize_t length = readlink(path, target, PATH_BYTES_MAX);
    target[length < 0 ? 0 : length] = 0;
  }
  finish(connection, went && send_entry(connection, &status, "", target), &failure);
}

void serve_list(int connection, const struct frame* request) {
  struct failure failure = {0};
  int flags;
  const char* path = get_path(request, &flags);
  if (!path) {
    send_failed(connection, EPROTO, "list");
    return;
  }
  DIR* entries = opendir(path);
  bool going = entries || fail(&failure, path);
  for (struct dirent* entry; going && (entry = readdir(entries));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    struct stat status;
    char target[PATH_BYTES_MAX + 1] = "";
    if (fstatat(dirfd(entries), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
    if (S_ISLNK(status.st_mode)) {
      ssize_t length = readlinkat(dirfd(entries), entry->d_name, target, PATH_BYTES_MAX);
      target[length < 0 ? 0 : length] = 0;
    }
    going = send_entry(connection, &status, entry->d_name, target);
  }
  if (entries) closedir(entries);
  finish(connection, going, &failure);
}

static bool remove_at(int parent, const char* name, bool recursive, int depth,
                      struct failure* failure) {
  if (unlinkat(parent, name, 0) == 0) return true;
  if (errno != EISDIR || !recursive) return fail(failure, name);
  if (unlinkat(parent, name, AT_REMOVEDIR) == 0) return true;
  if (errno != ENOTEMPTY) return fail(failure, name);
  int folder = depth < DEPTH_MAX
                   ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                   : -1;
  DIR* entries = folder < 0 ? NULL : fdopendir(folder);
  bool going = entries || fail(failure, name);
  for (struct dirent* entry; going && (entry = readdir(entries));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    going = remove_at(dirfd(entries), entry->d_name, true, depth + 1, failure);
  }
  if (entries) closedir(entries);
  return going && (unlinkat(parent, name, AT_REMOVEDIR) == 0 || fail(failure, name));
}

void serve_remove(int connection, const struct frame* request) {
  struct failure failure = {0};
  int flags;
  const char* path = get_path(request, &flags);
  if (!path)
    send_failed(connection, EPROTO, "remove");
  else
    finish(connection, remove_at(AT_FDCWD, path, flags & RECURSIVE, 0, &failure), &failure);
}
