/* Images of guest memory; see image_file.h. */
#include "image_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>

#include "native_error.h"

namespace estalo {

Napi::Function ImageFile::Define(Napi::Env env) {
  return DefineClass(env, "ImageFile",
                     {InstanceAccessor<&ImageFile::Fd>("fd"),
                      InstanceMethod<&ImageFile::Seal>("seal"),
                      InstanceMethod<&ImageFile::Close>("close")});
}

ImageFile::ImageFile(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ImageFile>(info) {
  int64_t size_bytes = info[0].As<Napi::Number>().Int64Value();
  fd_.Reset(memfd_create("estalo-guest-image", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd_.open()) {
    ThrowErrno(info.Env(), "memfd_create", errno);
    return;
  }
  if (ftruncate(fd_.get(), size_bytes) < 0) {
    ThrowErrno(info.Env(), "ftruncate", errno);
    return;
  }
  size_bytes_ = static_cast<uint64_t>(size_bytes);
}

Napi::Value ImageFile::Fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fd_.get());
}

void ImageFile::Seal(const Napi::CallbackInfo& info) {
  int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  if (fcntl(fd_.get(), F_ADD_SEALS, seals) < 0) {
    ThrowErrno(info.Env(), "fcntl", errno);
    return;
  }
  sealed_ = true;
}

void ImageFile::Close(const Napi::CallbackInfo&) {
  fd_.Close();
}

} // namespace estalo
