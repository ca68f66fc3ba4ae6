/*
 * Bytes that many guests begin with: a memfd, written once, sealed, then mapped by each of them as
 * a private copy (GuestMapping::MapImage). Sealed, so that it can neither change nor shrink under a
 * guest that has it mapped.
 *
 * new ImageFile(sizeBytes): fd, seal(), close(). Guests keep what they mapped. Thread: any one.
 */
#ifndef ESTALO_IMAGE_FILE_H
#define ESTALO_IMAGE_FILE_H

#include <cstdint>
#include <napi.h>

#include "file_descriptor.h"

namespace estalo {

class ImageFile : public Napi::ObjectWrap<ImageFile> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit ImageFile(const Napi::CallbackInfo& info);

  /* -1 unless the image is sealed and open. */
  int sealed_fd() const {
    return sealed_ ? fd_.get() : -1;
  }
  uint64_t size_bytes() const {
    return size_bytes_;
  }

private:
  Napi::Value Fd(const Napi::CallbackInfo& info);
  void Seal(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor fd_;
  uint64_t size_bytes_ = 0;
  bool sealed_ = false;
};

} // namespace estalo

#endif
