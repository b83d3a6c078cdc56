// SPDX-License-Identifier: Apache-2.0
/// @file
/// A file's bytes: read into memory (the default), or mapped.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define GRAFT_HAS_MMAP 1
#endif

#include <graft/config.hpp>
#include <graft/io/errors.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// Owns the bytes of one file, 64-byte aligned when they were read. Moves, does not copy.
class file_bytes {
 public:
  file_bytes() = default;

  /// The whole file, copied. Throws file_error, or format_error above `limit` bytes.
  [[nodiscard]] static file_bytes read(std::string const& path, std::size_t limit = static_cast<std::size_t>(-1)) {
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> const file(std::fopen(path.c_str(), "rb"),
                                                               [](std::FILE* f) { return std::fclose(f); });
    if (!file) detail::refuse<file_error>(path, std::string("cannot be opened: ") + std::strerror(errno));
#if defined(GRAFT_HAS_MMAP)
    struct ::stat about{};
    if (::fstat(::fileno(file.get()), &about) == 0 && S_ISDIR(about.st_mode))
      detail::refuse<file_error>(path, "cannot be read: it is a folder");
#endif
    file_bytes out;
    std::size_t capacity = 0;
    if (std::fseek(file.get(), 0, SEEK_END) == 0) {
      long const end = std::ftell(file.get());
      if (end > 0) capacity = static_cast<std::size_t>(end);
      std::rewind(file.get());
    }
    if (capacity > limit)
      detail::refuse(path,
                     graft::detail::text("the file has ", capacity, " bytes, more than the ", limit, " that are read"));
    out.own(capacity == 0 ? 4096 : capacity);
    while (true) {
      if (out.size_ == out.capacity_) {  // it grew, or it is a pipe
        int const c = std::fgetc(file.get());
        if (c == EOF) break;
        if (out.size_ >= limit)
          detail::refuse(path, graft::detail::text("the file has more than the ", limit, " bytes that are read"));
        file_bytes larger;
        larger.own(out.capacity_ * 2);
        std::memcpy(larger.owned_.get(), out.owned_.get(), out.size_);
        larger.size_ = out.size_;
        larger.owned_.get()[larger.size_++] = static_cast<std::byte>(c);
        out = std::move(larger);
        continue;
      }
      std::size_t const got = std::fread(out.owned_.get() + out.size_, 1, out.capacity_ - out.size_, file.get());
      if (got == 0) break;
      out.size_ += got;
    }
    if (out.size_ > limit)
      detail::refuse(path, graft::detail::text("the file has more than the ", limit, " bytes that are read"));
    if (std::ferror(file.get()) != 0)
      detail::refuse<file_error>(path, std::string("cannot be read: ") + std::strerror(errno));
    out.data_ = out.owned_.get();
    return out;
  }

  /// The file in the address space, read-only: nothing is copied, pages come when they are touched. If somebody truncates
  /// the file meanwhile, touching it kills the process (SIGBUS); that is why reading is the default.
  [[nodiscard]] static file_bytes map(std::string const& path) {
#if defined(GRAFT_HAS_MMAP)
    int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) detail::refuse<file_error>(path, std::string("cannot be opened: ") + std::strerror(errno));
    struct ::stat about{};
    file_bytes out;
    int failed = ::fstat(file, &about) != 0 ? errno : 0;
    if (failed == 0 && about.st_size > 0) {
      out.size_ = static_cast<std::size_t>(about.st_size);
      void* const p = ::mmap(nullptr, out.size_, PROT_READ, MAP_PRIVATE, file, 0);
      if (p == MAP_FAILED) failed = errno;
      else out.mapped_ = {static_cast<std::byte const*>(p), unmap{out.size_}};
    }
    ::close(file);
    if (failed != 0) detail::refuse<file_error>(path, std::string("cannot be mapped: ") + std::strerror(failed));
    out.data_ = out.mapped_.get();
    return out;
#else
    return read(path);
#endif
  }

  /// A copy of bytes that are in memory already.
  [[nodiscard]] static file_bytes copy(std::span<std::byte const> bytes) {
    file_bytes out;
    out.own(bytes.empty() ? 1 : bytes.size());
    if (!bytes.empty()) std::memcpy(out.owned_.get(), bytes.data(), bytes.size());
    out.size_ = bytes.size();
    out.data_ = out.owned_.get();
    return out;
  }

  [[nodiscard]] std::span<std::byte const> bytes() const { return {data_, size_}; }
  /// The same to be written to; empty when they are mapped.
  [[nodiscard]] std::span<std::byte> owned() { return {owned_.get(), owned_ ? size_ : 0}; }

 private:
  struct release {
    void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  struct unmap {
    std::size_t size;
    void operator()([[maybe_unused]] std::byte const* p) const {
#if defined(GRAFT_HAS_MMAP)
      ::munmap(const_cast<std::byte*>(p), size);
#endif
    }
  };
  void own(std::size_t capacity) {
    owned_.reset(static_cast<std::byte*>(::operator new(capacity, std::align_val_t{64})));
    capacity_ = capacity;
  }

  std::unique_ptr<std::byte, release> owned_;
  std::unique_ptr<std::byte const, unmap> mapped_;
  std::byte const* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace graft::inline GRAFT_CONTRACT::io
