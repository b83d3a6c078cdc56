# What files of CUDA need of graft::cuda, here and in an installed package. cxx_std_20 says nothing to nvcc, and CMake below 3.26
# does not know C++20 for nvcc 12 and newer: then the option itself.
function(graft_cuda_options target)
  if("cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
    target_compile_features(${target} INTERFACE cuda_std_20)
  else()
    target_compile_options(${target} INTERFACE "$<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-std=c++20>")
  endif()
  target_compile_options(${target} INTERFACE "$<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:--expt-relaxed-constexpr>")
endfunction()
