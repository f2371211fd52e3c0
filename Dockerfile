FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.buildVersion=${VERSION}" -o /drover ./cmd/drover \
 && mkdir -p /rootfs/etc/drover /rootfs/var/lib/drover \
 && chown 65532:65532 /rootfs/var/lib/drover

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /rootfs/etc/drover /etc/drover
COPY --from=build --chown=65532:65532 /rootfs/var/lib/drover /var/lib/drover
COPY --from=build /drover /drover
USER 65532:65532
EXPOSE 8080 9900
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/drover", "ready"]
ENTRYPOINT ["/drover"]
CMD ["run", "-c", "/etc/drover/drover.yaml"]
