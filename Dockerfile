# The image of the operator. Its context is made by `make image`, which builds the binary with Cargo: nothing is pulled,
# unless BASE names another image.
ARG BASE=scratch
FROM ${BASE}

ARG TARGETARCH
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="secrets-distributor" \
      org.opencontainers.image.description="Policed, multi-tenant distribution of mounted provider secrets to Kubernetes Secrets" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# For a collector with TLS; the API server's certificate is checked by the cluster's own authority.
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY ${TARGETARCH}/secrets-distributor /secrets-distributor

# Numeric: Pod Security cannot judge a name.
USER 65532:65532
ENTRYPOINT ["/secrets-distributor"]
CMD ["run"]
