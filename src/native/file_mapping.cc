/* A file as guest memory; see file_mapping.h. */
#include "file_mapping.h"

#include <cerrno>
#include <sys/mman.h>

#include "native_error.h"

namespace estalo {

namespace {
/* So that KVM can map it with large pages. */
constexpr uint64_t kWindowBytes = 2 << 20;
constexpr double kMostBytes = 1ull << 46;
} // namespace

MappedFile::MappedFile(uint8_t* reserved, uint64_t reserved_bytes, bool read_only)
    : reserved_(reserved), reserved_bytes_(reserved_bytes), read_only_(read_only) {
}

std::shared_ptr<MappedFile> MappedFile::Create(int fd, uint64_t file_bytes, bool read_only) {
  uint64_t size_bytes = (file_bytes + kWindowBytes - 1) / kWindowBytes * kWindowBytes;
  uint64_t reserved_bytes = size_bytes + kWindowBytes;
  int protection = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  void* reserved =
      mmap(nullptr, reserved_bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto file = std::shared_ptr<MappedFile>(
      new MappedFile(static_cast<uint8_t*>(reserved), reserved_bytes, read_only));
  uint64_t past = reinterpret_cast<uintptr_t>(reserved) % kWindowBytes;
  file->base_ = file->reserved_ + (past == 0 ? 0 : kWindowBytes - past);
  file->size_bytes_ = size_bytes;
  if (mmap(file->base_, file_bytes, protection, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) ==
      MAP_FAILED) {
    return nullptr;
  }
  madvise(file->base_, size_bytes, MADV_DONTDUMP);
  return file;
}

MappedFile::~MappedFile() {
  int error = errno;
  munmap(reserved_, reserved_bytes_);
  errno = error;
}

Napi::Function FileMapping::Define(Napi::Env env) {
  return DefineClass(env, "FileMapping",
                     {InstanceAccessor<&FileMapping::WindowBytes>("windowBytes"),
                      InstanceMethod<&FileMapping::Close>("close")});
}

FileMapping::FileMapping(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FileMapping>(info) {
  double bytes = info[1].As<Napi::Number>().DoubleValue();
  if (!(bytes >= 1 && bytes <= kMostBytes)) {
    ThrowBug(info.Env(), "a file of some bytes");
    return;
  }
  file_ = MappedFile::Create(info[0].As<Napi::Number>().Int32Value(), static_cast<uint64_t>(bytes),
                             info[2].ToBoolean());
  if (file_ == nullptr) ThrowErrno(info.Env(), "mmap", errno);
}

Napi::Value FileMapping::WindowBytes(const Napi::CallbackInfo& info) {
  uint64_t bytes = file_ == nullptr ? 0 : file_->size_bytes();
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

void FileMapping::Close(const Napi::CallbackInfo&) {
  file_.reset();
}

} // namespace estalo
