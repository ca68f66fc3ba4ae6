/*
 * A file as memory of a guest, for a persistent memory device: its pages are the host's page cache.
 *
 *      ├──── the file, MAP_SHARED ────┤─ zeros ─┤     whole windows of 2 MiB
 *
 * Nothing in this process touches the mapping: it is there for KVM. A vCPU that reads where the
 * file was cut off meanwhile waits, or fails in KVM_RUN, by itself. The window's rest after the
 * file is memory of this process that is not in the file.
 *
 * new FileMapping(fd, sizeBytes, readOnly): windowBytes, close(). The descriptor stays the
 * caller's. A VM that has the mapping in a slot keeps it until it is closed itself. Thread: any
 * one.
 */
#ifndef ESTALO_FILE_MAPPING_H
#define ESTALO_FILE_MAPPING_H

#include <cstdint>
#include <memory>
#include <napi.h>

namespace estalo {

class MappedFile {
public:
  /* Null and errno on failure. */
  static std::shared_ptr<MappedFile> Create(int fd, uint64_t file_bytes, bool read_only);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  uint8_t* base() const {
    return base_;
  }
  uint64_t size_bytes() const {
    return size_bytes_;
  }
  bool read_only() const {
    return read_only_;
  }

private:
  MappedFile(uint8_t* reserved, uint64_t reserved_bytes, bool read_only);

  uint8_t* reserved_;
  uint64_t reserved_bytes_;
  uint8_t* base_ = nullptr;
  uint64_t size_bytes_ = 0;
  bool read_only_;
};

class FileMapping : public Napi::ObjectWrap<FileMapping> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit FileMapping(const Napi::CallbackInfo& info);
  /* Null when closed. */
  const std::shared_ptr<MappedFile>& file() const {
    return file_;
  }

private:
  Napi::Value WindowBytes(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  std::shared_ptr<MappedFile> file_;
};

} // namespace estalo

#endif
