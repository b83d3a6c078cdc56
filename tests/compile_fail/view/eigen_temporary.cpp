// expect: graft::view: this Eigen matrix is a temporary; the view would outlive its data
#include <graft/eigen.hpp>
int main() {
  Eigen::MatrixXf m(2, 2);
#if defined(GRAFT_KO)
  return static_cast<int>(graft::view(Eigen::MatrixXf(m + m)).size());
#else
  return static_cast<int>(graft::view(m).size());
#endif
}
