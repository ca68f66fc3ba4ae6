/* A descriptor with one owner, closed exactly once. */
#ifndef ESTALO_FILE_DESCRIPTOR_H
#define ESTALO_FILE_DESCRIPTOR_H

#include <unistd.h>

namespace estalo {

class FileDescriptor {
public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {
  }
  ~FileDescriptor() {
    Close();
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const {
    return fd_;
  }
  bool open() const {
    return fd_ >= 0;
  }
  void Reset(int fd) {
    Close();
    fd_ = fd;
  }
  /* Gives the descriptor away: whoever called closes it. -1 when there is none. */
  int Release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

private:
  int fd_ = -1;
};

} // namespace estalo

#endif
